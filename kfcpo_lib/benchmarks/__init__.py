"""Benchmarks behind `python -m kfcpo_lib bench`: scripts, never timed tests."""
