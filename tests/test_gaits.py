"""A robot from the side: rigid limbs, on the ground, the same each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kfcpo_lib.gaits
from kfcpo_lib.benchmarks.frontier import STORED
from kfcpo_lib.gaits import Gait, watch_gait


@pytest.fixture(scope="module")
def gait() -> Gait:
    return watch_gait(STORED / "cheetah", steps=40)


def test_limbs_are_rigid_and_the_trunk_is_a_metre_long(gait: Gait) -> None:
    """The robot's file says: a trunk of 1 m, seven more limbs, all in one plane."""
    lengths = np.linalg.norm(np.diff(gait.limbs, axis=2)[:, :, 0], axis=-1)
    assert lengths.shape == (41, 8)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), atol=1e-9)
    assert lengths[0].max() == pytest.approx(1.0)


def test_neighbouring_limbs_hang_together(gait: Gait) -> None:
    """Foot and shin: each limb has an end within a limb's thickness of another one's."""
    ends = gait.limbs.reshape(41, 16, 2)
    apart = np.linalg.norm(ends[:, :, None] - ends[:, None], axis=-1)
    own = np.arange(16)[:, None] // 2 == np.arange(16) // 2
    nearest = np.where(own, np.inf, apart).min(axis=2).reshape(41, 8, 2).min(axis=2)
    assert nearest.max() < 0.15


def test_costs_are_those_of_the_world_and_all_is_the_same_each_time(gait: Gait) -> None:
    assert gait.cost.shape == (40,)
    assert (gait.cost >= 0).all() and (gait.cost <= 1).all()
    again = watch_gait(STORED / "cheetah", steps=40)
    np.testing.assert_array_equal(again.limbs, gait.limbs)
    sampled = watch_gait(STORED / "cheetah", steps=40, actions="sampled")
    assert sampled.cost.mean() > gait.cost.mean()  # the noise is force, too


def test_a_gait_ends_with_its_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    make = kfcpo_lib.gaits.make_vec_env

    def short(*args: Any) -> Any:
        env = make(*args)
        env.max_episode_steps = 5
        return env

    monkeypatch.setattr(kfcpo_lib.gaits, "make_vec_env", short)
    assert watch_gait(STORED / "cheetah", steps=40).cost.shape == (5,)


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="policy"):
        watch_gait(tmp_path, steps=1)
