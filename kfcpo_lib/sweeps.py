"""Sweeps: every run of a spec trained and evaluated, on this machine or on a Ray cluster.

What is finished is read off the run folders alone, so a sweep may be killed at any moment and
started again. A run whose worker was killed goes on from its checkpoint, to the same numbers.
"""

import logging
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from kfcpo_lib.envs.crew import available_processors
from kfcpo_lib.evaluation import store_evaluation
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import (
    check_same_run,
    count_rows,
    lock,
    read_checkpoint,
    read_config,
    write_whole,
)
from kfcpo_lib.specs import Spec
from kfcpo_lib.studies import is_evaluated, summary
from kfcpo_lib.training import train

RESTARTS = 5
"""So often is a run started again whose worker was killed."""
TICK = 1.0
"""Seconds between two looks at the progress."""
PATIENCE = 60.0
"""Seconds that a run waits for a lost worker to let go of its folder."""


@dataclass(frozen=True)
class Job:
    """One run with its folder, and the episodes of its evaluation."""

    config: TrainConfig
    episodes: int

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(str(self.config.run_dir))


Outcome = tuple[Job, str | None]
"""A job that has ended, and what went wrong if anything did."""
Outcomes = Generator[list[Outcome], None, None]
Backend = Callable[[Sequence[Job]], Outcomes]
"""Carries out jobs, and yields those that have ended; about once a `TICK`, be it an empty list."""


def jobs_of(spec: Spec, out: str | Path) -> list[Job]:
    """The spec's runs as jobs, a folder each in `out`.

    Raises:
        ValueError: if a folder holds another run than the spec asks for.
    """
    jobs = []
    for run in spec.runs:
        folder = Path(out) / run.name
        config = replace(run.config, run_dir=str(folder))
        if (folder / "config.json").exists():
            check_same_run(config, read_config(folder)["settings"])
        jobs.append(Job(config, spec.evaluation_episodes))
    return jobs


def is_finished(job: Job) -> bool:
    """Whether the run has all its epochs, and an evaluation of the policy that came out.

    A damaged folder is not finished; what is wrong with it is said when it is carried out.
    """
    try:
        return is_trained(job) and is_evaluated(job.folder, job.episodes)
    except ValueError:
        return False


def is_trained(job: Job) -> bool:
    """Whether the run's checkpoint has all its epochs."""
    checkpoint = job.folder / "checkpoint.pt"
    return checkpoint.exists() and read_checkpoint(job.folder)["epoch"] >= job.config.epochs


def carry_out(job: Job) -> None:
    """Train and evaluate one run, from wherever its folder stands."""
    if not is_trained(job):
        for _ in train(job.config, resume=True):
            pass
    if not is_evaluated(job.folder, job.episodes):
        store_evaluation(job.folder, job.episodes, env_threads=job.config.env_threads)


def sweep(spec: Spec, out: str | Path, backend: Backend) -> list[Outcome]:
    """Carry out what is not finished, with a progress bar; `results.csv` grows as runs finish.

    Returns:
        The runs that failed, and why. The others are not held up by them.

    Raises:
        ValueError: if a folder holds another run than the spec asks for.
        BlockingIOError: if another sweep is at work in `out`.
    """
    jobs = jobs_of(spec, out)
    Path(out).mkdir(parents=True, exist_ok=True)
    with open(Path(out) / ".lock", "ab") as file:
        try:
            lock(file)
        except BlockingIOError as error:
            raise BlockingIOError(f"another sweep is at work in {out}") from error
        write_results(spec, out)
        return _watch(spec, out, jobs, backend)


def _watch(spec: Spec, out: str | Path, jobs: Sequence[Job], backend: Backend) -> list[Outcome]:
    failed: list[Outcome] = []
    unfinished = [job for job in jobs if not is_finished(job)]
    with (
        _bar(jobs) as bar,
        closing(backend(unfinished)) as outcomes,
    ):
        ended = len(jobs) - len(unfinished)
        for just_ended in outcomes:
            for job, trouble in just_ended:
                if trouble:
                    failed.append((job, trouble))
                    bar.write(f"{job.folder.name} failed: {trouble}")
            if just_ended:
                write_results(spec, out)
            ended += len(just_ended)
            words = f"{ended}/{len(jobs)} runs ended, {len(failed)} failed"
            bar.set_postfix_str(words, refresh=bool(just_ended))
            bar.update(_steps_done(jobs) - bar.n)
    return failed


def _bar(jobs: Sequence[Job]) -> Any:
    total = sum(job.config.epochs * job.config.steps_per_epoch for job in jobs)
    seconds = 1.0 if sys.stderr.isatty() else 60.0  # a log need not be told so often
    return tqdm(
        total=total, initial=_steps_done(jobs), unit="step", unit_scale=True, mininterval=seconds
    )


def states(spec: Spec, out: str | Path) -> str:
    """A line for every run: how many of its steps are done, and whether it is finished."""
    lines = []
    for job in jobs_of(spec, out):
        total = job.config.epochs * job.config.steps_per_epoch
        end = "finished" if is_finished(job) else f"{_steps_done([job]):,} of {total:,} steps"
        lines.append(f"{job.folder.name}: {end}")
    return "\n".join(lines)


def _steps_done(jobs: Sequence[Job]) -> int:
    return sum(
        min(count_rows(job.folder / "progress.csv"), job.config.epochs) * job.config.steps_per_epoch
        for job in jobs
    )


def write_results(spec: Spec, out: str | Path) -> pd.DataFrame:
    """`results.csv`: a row for every finished run, with its place in the grid and its `summary`."""
    rows = [
        {"run": run.name, "configuration": run.configuration}
        | dict(run.choices)
        | summary(job.folder)
        for run, job in zip(spec.runs, jobs_of(spec, out), strict=True)
        if is_finished(job)
    ]
    table = pd.DataFrame(rows)
    write_whole(Path(out) / "results.csv", table.to_csv(index=False).encode())
    return table


# ------------------------------------------------------------------------------- on this machine


def local_backend(workers: int, niceness: int = 0) -> Backend:
    """At most `workers` runs at a time, each in a process of its own.

    Args:
        workers: how many; the processors are shared out among them.
        niceness: added to the processes' own, where the system has such a thing.
    """
    threads = max(1, available_processors() // workers)

    def carry_out_all(jobs: Sequence[Job]) -> Outcomes:
        waiting = deque((_with_threads(job, threads), 0) for job in jobs)
        running: dict[Any, _Worker] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    worker = _Worker(*waiting.popleft(), niceness)
                    running[worker.process.sentinel] = worker
                ended = [running.pop(sentinel) for sentinel in wait(list(running), TICK)]
                lost = [worker for worker in ended if worker.is_lost()]
                waiting.extendleft((worker.job, worker.restarts + 1) for worker in lost)
                yield [(worker.job, worker.trouble) for worker in ended if worker not in lost]
        finally:
            for worker in running.values():
                worker.process.kill()  # every moment is a good one: the run can be resumed
                worker.process.join()

    return carry_out_all


class _Worker:
    """A process that carries out one job."""

    def __init__(self, job: Job, restarts: int, niceness: int) -> None:
        self.job, self.restarts = job, restarts
        context = multiprocessing.get_context("spawn")
        self._words, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job, niceness, sender), daemon=True)
        self.process.start()
        sender.close()
        self.trouble: str | None = "its worker was killed, again and again"

    def is_lost(self) -> bool:
        """Whether the ended process was killed and is to be replaced; else `trouble` is known."""
        with suppress(EOFError):
            self.trouble = self._words.recv()
            return False
        return self.restarts < RESTARTS


def _work(job: Job, niceness: int, words: Connection) -> None:
    """What a worker process does; it dies with the process that started it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        if hasattr(os, "nice"):
            os.nice(niceness)
        carry_out_patiently(job)
        words.send(None)
    except Exception as error:
        words.send(_describe(error))


def _die_with(process: Any) -> None:
    process.join()
    os._exit(1)


def _with_threads(job: Job, threads: int) -> Job:
    """The job with so many threads of the simulator, unless its spec says how many."""
    if job.config.env_threads is not None:
        return job
    return replace(job, config=replace(job.config, env_threads=threads))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# -------------------------------------------------------------------------------------- on Ray


def ray_backend(address: str) -> Backend:
    """One run per processor of a Ray cluster.

    The sweep's folder must be on a drive that every machine of the cluster sees under the same
    path, and `kfcpo_lib` installed on each of them.

    Args:
        address: `HOST:PORT` of the cluster's head, or `auto` for the cluster of this machine.

    Raises:
        ValueError: if Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install ray") from error

    def carry_out_all(jobs: Sequence[Job]) -> Outcomes:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray has no kind of its own for a cluster that is not there
            raise ValueError(f"no Ray cluster at {address}: {error}") from error
        try:
            yield from _ray_outcomes(ray, jobs)
        finally:
            ray.shutdown()

    return carry_out_all


def _ray_outcomes(ray: Any, jobs: Sequence[Job]) -> Outcomes:
    remote = ray.remote(num_cpus=1, max_retries=RESTARTS)(carry_out_patiently)
    running = {remote.remote(_with_threads(job, 1)): job for job in jobs}
    while running:
        ended, _ = ray.wait(list(running), num_returns=1, timeout=TICK)
        yield [(running.pop(ref), _ray_trouble(ray, ref)) for ref in ended]


def _ray_trouble(ray: Any, ref: Any) -> str | None:
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return _describe(error.cause)
    except ray.exceptions.RayError as error:
        return _describe(error)
    return None


def carry_out_patiently(job: Job) -> None:
    """`carry_out`, once a worker that the cluster has given up has let go of the folder."""
    if not job.folder.parent.is_dir():
        raise FileNotFoundError(
            f"{job.folder.parent} is not there on {platform.node()}: the sweep's folder must be on "
            "a drive that every machine of the cluster sees"
        )
    for _ in range(int(PATIENCE)):
        with suppress(BlockingIOError):
            return carry_out(job)
        time.sleep(1.0)
    return carry_out(job)
