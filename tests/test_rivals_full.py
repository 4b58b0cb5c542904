"""Five seeds of every rival on the point-mass world: constrained inside, unconstrained outside."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rivals_point_mass import CONSTRAINED, UNCONSTRAINED, Outcome, train_and_judge

SEEDS = range(5)
STEPS = 300_000

pytestmark = pytest.mark.full


def outcomes(algorithm: str, folder: Path, note: Callable[[str, object], None]) -> list[Outcome]:
    found = [train_and_judge(algorithm, seed, STEPS, folder / str(seed)) for seed in SEEDS]
    for name in asdict(found[0]):
        note(name, [round(asdict(outcome)[name], 2) for outcome in found])
    return found


@pytest.mark.parametrize("algorithm", CONSTRAINED)
def test_constrained_rules_end_inside_the_limit(
    algorithm: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = outcomes(algorithm, tmp_path, record_property)
    assert sum(outcome.inside for outcome in found) >= 4
    assert np.mean([outcome.cost for outcome in found]) < 10
    assert np.mean([outcome.episode_return for outcome in found]) > 1.0


@pytest.mark.parametrize("algorithm", UNCONSTRAINED)
def test_unconstrained_rules_end_outside_with_a_higher_return(
    algorithm: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = outcomes(algorithm, tmp_path, record_property)
    assert all(outcome.outside for outcome in found)
    assert np.mean([outcome.episode_return for outcome in found]) > 7.0
