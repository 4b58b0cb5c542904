"""The benchmark of minibatch sizes: what a row says, and that both end alike."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from kfcpo_lib.benchmarks import minibatches
from kfcpo_lib.benchmarks.minibatches import in_quarters, measure


def test_a_row_counts_adams_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight epochs of two passes: 1,000 steps are 16 minibatches of 64, or 2 of 500."""
    short = {"total_steps": 8_000, "steps_per_epoch": 1_000, "num_envs": 10, "kl_limit": 9.0}
    monkeypatch.setattr(minibatches, "WORLD", minibatches.WORLD | short)
    monkeypatch.setattr(minibatches, "RULE", minibatches.RULE | {"passes": 2})
    rows = {size: measure(size, seed=0) for size in (64, 500)}
    assert {size: row["Adam steps"] for size, row in rows.items()} == {
        64: 8 * 2 * 16,
        500: 8 * 2 * 2,
    }
    assert all(row["passes an epoch"] == 2 for row in rows.values())
    again = measure(500, seed=0)
    assert all(rows[500][name] == again[name] for name in again if name != "processor seconds")


def test_quarters_leave_out_epochs_without_an_episode() -> None:
    assert in_quarters([math.nan, 1, 2, 4, 5, 7, 8, 8]) == [1, 3, 6, 8]


@pytest.mark.full
def test_larger_minibatches_end_alike_with_a_fraction_of_the_steps(
    record_property: Callable[[str, object], None],
) -> None:
    rows = {size: [measure(size, seed) for seed in range(3)] for size in (64, 500)}
    for size, runs in rows.items():
        record_property(str(size), runs)
    returns, costs = (
        {size: np.mean([run[name] for run in runs]) for size, runs in rows.items()}
        for name in ("return 4/4", "cost 4/4")
    )
    assert returns[500] > 0.75 * returns[64]
    assert all(cost < minibatches.WORLD["cost_limit"] for cost in costs.values())
    steps = {size: sum(run["Adam steps"] for run in runs) for size, runs in rows.items()}
    assert steps[500] < 0.3 * steps[64]
