"""A few threads that wait for work, because starting a pool's futures costs more than a step."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence


def available_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew:
    """Runs lists of jobs on `num_threads` threads, the caller's among them.

    Which thread does which job is left to chance; jobs must not depend on one another or raise.
    """

    def __init__(self, num_threads: int) -> None:
        self._jobs: Iterator[Callable[[], None]] = iter(())
        self._closed = False
        self._start = [threading.Semaphore(0) for _ in range(num_threads - 1)]
        self._done = threading.Semaphore(0)
        for start in self._start:
            threading.Thread(target=self._help, args=(start,), daemon=True).start()

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Do all the jobs; returns when the last one is done."""
        # A list's iterator hands out each item once, whichever thread asks.
        self._jobs = iter(list(jobs))
        for start in self._start:
            start.release()
        try:
            self._work()
        finally:  # an interrupt, too, waits until no one works any more
            for _ in self._start:
                self._done.acquire()

    def _work(self) -> None:
        for job in self._jobs:
            job()

    def _help(self, start: threading.Semaphore) -> None:
        while True:
            start.acquire()
            if self._closed:
                return
            self._work()
            self._done.release()

    def close(self) -> None:
        """End the helping threads."""
        self._closed = True
        for start in self._start:
            start.release()
        self._start = []
