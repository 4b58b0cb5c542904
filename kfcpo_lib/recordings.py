"""A run as it can be watched again: its tables, its policies on the way, what was turned when."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfcpo_lib.records import Knobs, TrainConfig
from kfcpo_lib.runs import read_minibatches, read_progress, read_train_config
from kfcpo_lib.training import moved_lambda, schedules

NO_MINIBATCHES = pd.DataFrame(columns=["epoch", "kl", "committed", "delta", "cosine"], dtype=float)
KNOBS = tuple(knob.name for knob in fields(Knobs))
ROUNDED = 1e-4
"""Relative difference that is no turn: stored runs have six digits."""


@dataclass(frozen=True)
class Change:
    """A knob that was turned while the run went on."""

    env_steps: int
    """Step at which it took effect: the beginning of the first epoch with the new value."""
    knob: str
    before: float
    after: float


@dataclass(frozen=True)
class Recording:
    """A run up to some epoch; finished, stopped, or still growing."""

    folder: Path
    config: TrainConfig
    progress: pd.DataFrame
    """A row an epoch."""
    minibatches: pd.DataFrame
    """A row a trial step; empty if the run does not have them."""
    snapshots: dict[int, str]
    """Environment steps -> file of the policy at that step, in order."""

    @classmethod
    def read(cls, folder: str | Path) -> "Recording":
        """Read a run's folder, also one that is being written.

        Raises:
            ValueError: if it is no run, has no epoch yet, or is damaged.
        """
        place, config = Path(folder), read_train_config(folder)
        progress = read_progress(place)
        has_minibatches = (place / "minibatches.csv").exists()
        minibatches = read_minibatches(place) if has_minibatches else NO_MINIBATCHES
        snapshots = {
            int(path.stem.removeprefix("policy_")): f"snapshots/{path.name}"
            for path in sorted(place.glob("snapshots/policy_*.pt"))
        }
        if (place / "policy.pt").exists():
            snapshots[int(progress["env_steps"].iloc[-1])] = "policy.pt"
        return cls(place, config, progress, minibatches, snapshots)

    def until(self, epoch: int) -> "Recording":
        """The same run as it was after some epoch (at least one)."""
        progress = self.progress[self.progress["epoch"] <= max(epoch, 1)]
        minibatches = self.minibatches[self.minibatches["epoch"] <= max(epoch, 1)]
        return replace(self, progress=progress, minibatches=minibatches)

    @property
    def epochs(self) -> int:
        """How many epochs it has."""
        return len(self.progress)

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        return int(self.progress["env_steps"].iloc[-1])

    @property
    def policy(self) -> str | None:
        """File of the last policy that was kept until now, else of the first after it."""
        earlier = [name for steps, name in self.snapshots.items() if steps <= self.env_steps]
        return next(iter([*reversed(earlier), *self.snapshots.values()]), None)

    @property
    def changes(self) -> list[Change]:
        """Every turn of a knob until now; none where rows of several epochs hide them."""
        found: list[Change] = []
        if (self.progress["epoch"].diff() > 1).any():
            return found
        begins = self.progress["env_steps"] - self.config.steps_per_epoch
        shares = pd.DataFrame([schedules(self.config, int(steps)) for steps in begins])
        for knob in KNOBS:
            values = self.progress[knob].to_numpy(dtype=float)
            values = values / shares[knob].to_numpy() if knob in shares else values
            moves = knob == "margin_lambda" and self.config.margin_rate > 0
            left_alone = self._moved_lambdas() if moves else values[:-1]
            for i in np.flatnonzero(~np.isclose(values[1:], left_alone, rtol=ROUNDED, atol=0.0)):
                steps = int(self.progress["env_steps"].iloc[i])
                found.append(Change(steps, knob, float(left_alone[i]), float(values[i + 1])))
        return sorted(found, key=lambda change: change.env_steps)

    def _moved_lambdas(self) -> NDArray[np.float64]:
        """[epochs - 1] lambda of each epoch but the first, had nobody turned it before that."""
        columns = self.progress[["margin_lambda", "episodic_cost_mean", "cost_limit"]]
        before = columns.iloc[:-1].to_numpy(dtype=float)
        rate = self.config.margin_rate
        return np.array([moved_lambda(now, rate, cost, limit) for now, cost, limit in before])


def find_runs(places: Iterable[str | Path]) -> dict[str, Path]:
    """Name -> folder of every run below some places that has epochs and a policy to look at."""
    found = {}
    for place in map(Path, places):
        for config in sorted(place.glob("**/config.json")):
            folder = config.parent
            if all((folder / name).exists() for name in ("progress.csv", "policy.pt")):
                found[folder.relative_to(place.parent).as_posix()] = folder
    return found
