"""Runs of a second, children that may be killed, and what must be equal between two runs."""

import csv
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kfcpo_lib.training
from kfcpo_lib.envs.interface import StepResult
from kfcpo_lib.envs.toys import PointMassVecEnv
from kfcpo_lib.records import TIME_COLUMNS, EpochReport, TrainConfig
from kfcpo_lib.runs import read_torch

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
EPOCH = 200
TINY: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "num_envs": 4,
    "steps_per_epoch": EPOCH,
    "total_steps": 6 * EPOCH,  # the first whole episodes end in epochs 4 to 6
    "hidden_sizes": (8,),
    "critic_passes": 1,
    "critic_minibatch": 100,
    "policy_snapshots": 2,
    "rule": {"minibatch_size": 100},
}
TINY_LINE = (
    "train --env PointMass-v0 --num-envs 4 --steps-per-epoch 200 --steps 1200 --hidden-sizes 8 "
    "--critic-passes 1 --critic-minibatch 100 --policy-snapshots 2 --rule minibatch_size=100"
)
"""The same on the command line."""


def tiny(folder: Path | None = None, **changes: Any) -> TrainConfig:
    return TrainConfig(**TINY | {"run_dir": folder} | changes)


def progress(folder: Path) -> list[dict[str, str]]:
    """The words of `progress.csv` but for the columns that are times."""
    with open(folder / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in TIME_COLUMNS} for row in rows]


def numbers(report: EpochReport) -> dict[str, str]:
    row = report.row()
    return {name: str(row[name]) for name in row if name not in TIME_COLUMNS}


def content(folder: Path) -> dict[str, Any]:
    """What two runs of one configuration must have in common, to the byte."""
    policy = read_torch(folder / "policy.pt", "kfcpo_lib policy 1")
    tensors = {**policy["policy"], **policy["normaliser"]}
    return {
        "progress": progress(folder),
        "episodes": (folder / "episodes.csv").read_bytes(),
        "minibatches": (folder / "minibatches.csv").read_bytes(),
        "policy": {
            name: repr(getattr(t, "tolist", lambda t=t: t)()) for name, t in tensors.items()
        },
    }


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def in_child(job: Callable[[], None]) -> int:
    """Run a job in a forked child; its exit code, or minus the signal that killed it."""
    return wait_for(start_child(job))


def start_child(job: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        job()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class SpoiltPointMass(PointMassVecEnv):
    """A point-mass world that returns `value` as environment 1's `what` at some of its steps."""

    what, value, at = "reward", float("nan"), frozenset[int]()
    closed = 0

    def __init__(self, num_envs: int, seed: int) -> None:
        super().__init__(num_envs, seed)
        self.calls = 0

    def step(self, actions: Any) -> StepResult:
        self.calls += 1
        result = super().step(actions)
        if self.calls in self.at:
            result = result._replace(**{self.what: getattr(result, self.what).copy()})
            getattr(result, self.what)[1] = self.value
        return result

    def state(self) -> dict[str, Any]:
        return super().state() | {"calls": self.calls}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.calls = state["calls"]

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SpoiltPointMass]]:
    """Trainings run in this world instead of the stock one; set `what`, `value` and `at`."""

    class World(SpoiltPointMass):
        pass

    def make(env_id: str, num_envs: int, seed: int, **_: Any) -> World:
        return World(num_envs, seed)

    monkeypatch.setattr(kfcpo_lib.training, "make_vec_env", make)
    yield World
