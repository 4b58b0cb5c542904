"""KFCPO, the course: the thin library its notebooks stand on."""

from kfcpo_lib.envs import make_vec_env

__all__ = ["make_vec_env"]
