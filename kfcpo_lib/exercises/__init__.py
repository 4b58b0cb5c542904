"""Checks that the notebooks' exercises call; a module per notebook.

A check tries the student's function on fresh random inputs and says in one sentence what is
wrong, or that all is right. It never stops the notebook.
"""
