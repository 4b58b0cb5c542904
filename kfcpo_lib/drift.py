"""An epoch's drift away from its data, small enough to be computed in a blink.

A Gaussian policy with fixed standard deviation whose mean is linear in the parameters has
KL(collecting || present) = |x|^2 / 2 exactly, with x the way walked since the data was collected,
in Fisher units. A trial step has the length sqrt(2 delta); a share of it points where all
minibatches point, the rest is each minibatch's own noise.
"""

import math

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.records import Minibatch
from kfcpo_lib.trust_region import adapt_delta

Array = NDArray[np.float64]
NOISE_DIMENSIONS = 200
ROLLBACKS = ("minibatch", "epoch", "none")


def simulate_drift(
    kl_limit: float,
    delta: float,
    *,
    adaptive: bool = True,
    rollback: str = "minibatch",
    agreement: float = 0.5,
    epochs: int = 8,
    minibatches: int = 10,
    seed: int = 0,
) -> list[Minibatch]:
    """The trial steps of some epochs, each kept or undone as KFCPO would.

    Args:
        kl_limit: nats. delta: size of the first trial step, nats.
        rollback: what one check covers: `minibatch`, `epoch` or `none`.
        agreement: cosine between a step and the direction that all minibatches share.

    Raises:
        ValueError: on another word for the rollback.
    """
    if rollback not in ROLLBACKS:
        raise ValueError(f"rollback must be one of {', '.join(ROLLBACKS)}, got {rollback!r}")
    random = np.random.default_rng(seed)
    trials: list[Minibatch] = []
    for _ in range(epochs):
        steps = _directions(random, minibatches, agreement)
        epoch, delta = _one_epoch(steps, kl_limit, delta, adaptive, rollback)
        trials += epoch
    return trials


def _directions(random: np.random.Generator, count: int, agreement: float) -> Array:
    """[count, 1 + noise] unit vectors with this cosine to the first axis."""
    noise = random.standard_normal((count, NOISE_DIMENSIONS))
    noise *= math.sqrt(1.0 - agreement**2) / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.concatenate([np.full((count, 1), agreement), noise], axis=1)


def _one_epoch(
    steps: Array, kl_limit: float, delta: float, adaptive: bool, rollback: str
) -> tuple[list[Minibatch], float]:
    """Trials of one epoch, and the delta after it."""
    where = np.zeros(steps.shape[1])
    trials = []
    for step in steps:
        there = where + math.sqrt(2.0 * delta) * step
        kl = 0.5 * float(there @ there)
        committed = rollback != "minibatch" or kl <= kl_limit
        trials.append(Minibatch(kl, committed, delta, agreement_of(steps)))
        where = there if committed else where
        if adaptive and rollback != "epoch":
            delta = adapt_delta(delta, committed, kl_limit)
    if rollback == "epoch":
        kept = trials[-1].kl <= kl_limit
        trials = [Minibatch(t.kl, kept, t.delta, t.cosine) for t in trials]
        delta = adapt_delta(delta, kept, kl_limit) if adaptive else delta
    return trials, delta


def agreement_of(steps: Array) -> float:
    """The cosine that the steps were made with."""
    return float(steps[0, 0])


def share_undone(trials: list[Minibatch]) -> float:
    """Share of the trial steps that were rolled back; NaN if there were none."""
    undone = sum(not trial.committed for trial in trials)
    return undone / len(trials) if trials else math.nan


def balanced_rollbacks(grow: float = 1.05, shrink: float = 0.7) -> float:
    """Share of rollbacks at which an adaptive delta neither grows nor shrinks on average.

    (1 - f) log(grow) + f log(shrink) = 0, solved for f.
    """
    return math.log(grow) / (math.log(grow) - math.log(shrink))
