"""Threads that work together: every job is done, also where the caller is interrupted."""

import threading

import pytest

from kfcpo_lib.envs.crew import Crew


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_run_after_an_interrupted_one_returns_when_all_its_jobs_are_done() -> None:
    crew, begun, may_end, done = Crew(2), threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        may_end.wait(10)
        done.append("slow")

    def helper_first() -> None:
        """The caller is interrupted while the helper is at work."""
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            threading.Timer(0.1, may_end.set).start()
            interrupt()
        slow()

    with pytest.raises(KeyboardInterrupt):
        crew.run([helper_first, helper_first])
    assert done == ["slow"]  # nobody works any more

    for number in range(20):
        crew.run([lambda n=number: done.append(n), lambda n=number: done.append(n)])
        assert done.count(number) == 2
    crew.close()
