"""The shore walk: its closed forms, and what four controllers do on it."""

import numpy as np
import pytest
import torch

from kfcpo_lib.blending import blend, cosine
from kfcpo_lib.controllers import (
    HardSwitch,
    Lagrangian,
    MarginAware,
    ShoreWalk,
    SoftSwitch,
    rest_cost,
    rest_weight,
    simulate,
    switching_budget,
    weight_noise,
)


@pytest.mark.parametrize("conflict", [0.2, 0.6, 0.8])
@pytest.mark.parametrize("mode", ["none", "project_cost"])
@pytest.mark.parametrize("signal", [1.0, 0.5])
def test_the_margin_aware_cost_rests_where_the_theory_says(conflict, mode, signal):
    rest_at = rest_weight(conflict, signal, projected=mode == "project_cost")
    trace = simulate(ShoreWalk(conflict, signal), MarginAware(conflict=mode), epochs=400)
    assert trace.cost[-1] == pytest.approx(rest_cost(20.0, 0.8, 0.3, rest_at), abs=0.02)
    assert trace.cost_weight[-1] == pytest.approx(rest_at, abs=1e-3)


def test_at_rest_the_blend_does_not_change_the_cost():
    walk = ShoreWalk(0.7, 0.4)
    for mode, projected in (("none", False), ("project_cost", True)):
        weight = rest_weight(0.7, 0.4, projected=projected)
        blended = blend(walk.reward_direction, walk.cost_direction, weight, mode)
        assert float(blended[1]) == pytest.approx(0.0, abs=1e-12)


def test_directions_and_costs_are_what_the_walk_says():
    walk = ShoreWalk(0.6)
    assert cosine(walk.reward_direction, walk.cost_direction) == pytest.approx(-0.6)
    assert walk.episodic_cost(np.zeros(2)) == pytest.approx(50.0)
    random = np.random.default_rng(0)
    theta = np.array([0.0, -1.0])
    observed = walk.observe(theta, 20_000, random)
    assert observed.mean() == pytest.approx(walk.episodic_cost(theta), abs=0.5)
    assert set(observed) == {0.0, 25.0, 50.0, 75.0, 100.0}
    actions = random.normal(theta, 1.0, (100_000, 2))
    assert 100 * (actions[:, 1] > 0).mean() == pytest.approx(walk.episodic_cost(theta), abs=0.6)
    assert walk.episodic_return(theta) == pytest.approx(
        100 * (actions @ walk.reward_direction.numpy()).mean(), abs=2.0
    )


@pytest.mark.parametrize("dwell", [0, 30, 200])
def test_an_episode_is_a_whole_number_of_dwells(dwell):
    with pytest.raises(ValueError, match=f"dwell must divide steps, got {dwell} and 100"):
        ShoreWalk(dwell=dwell)


def test_switches_and_multiplier_swing_around_their_targets():
    walk = ShoreWalk()
    hard, soft, dual = (
        simulate(walk, controller).settled()
        for controller in (HardSwitch(), SoftSwitch(), Lagrangian())
    )
    assert hard.min() < 20 < hard.max()
    assert soft.max() < 20
    assert soft.mean() == pytest.approx(15.0, abs=1.0)
    assert dual.std() > 2 * hard.std()


def test_every_payment_is_covered_by_the_distance_won():
    budget = switching_budget()
    left = np.array(budget.squared_distance)
    assert np.all(np.cumsum(budget.paid) + left <= budget.start + 1e-9)
    assert set(budget.zone) == {0, 1, 2}


def test_weight_quantiles_agree_with_draws():
    draws = 16.0 + 4.0 * torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    weights = torch.sigmoid(0.3 * (draws - 16.0))
    low, high = weight_noise(0.3, 0.5, 4.0)
    assert float(weights.quantile(0.05)) == pytest.approx(low, abs=0.01)
    assert float(weights.quantile(0.95)) == pytest.approx(high, abs=0.01)
