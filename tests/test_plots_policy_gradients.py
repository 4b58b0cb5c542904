"""Every picture of notebook 01 draws, at its extremes too."""

import numpy as np
import pytest

from kfcpo_lib.corridor import Corridor
from kfcpo_lib.plots import policy_gradients as plots
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets.policy_gradients import (
    RIGHT,
    corridor_gradients,
    draw_estimates_at,
    draw_gae_at,
    draw_surrogate_at,
    estimate,
    gae_errors,
)


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_pulls_draw(baseline):
    assert png(plots.draw_pulls(1.0, np.array([-1.0, 0.5, 3.0]), baseline))


@pytest.mark.parametrize(("batch_size", "offset"), [(2, -5.0), (100, 5.0)])
def test_estimates_draw(batch_size, offset):
    assert png(draw_estimates_at(batch_size, offset))


def test_a_baseline_tames_an_offset_and_keeps_the_mean():
    exact = plots.exact_slope(1.0)
    without, with_baseline = estimate(50, 4.0, False), estimate(50, 4.0, True)
    assert without.std() > 4 * with_baseline.std()
    for sample in (without, with_baseline):
        assert sample.mean() == pytest.approx(exact, abs=4 * sample.std() / 1_000**0.5)


def test_corridor_and_credit_draw():
    corridor = Corridor()
    assert png(plots.draw_corridor(corridor.values(RIGHT), corridor.advantages(RIGHT), RIGHT))
    samples = {"GAE": corridor_gradients(0.95, 0.0)}
    assert png(plots.draw_credit(samples, corridor.gradient(RIGHT)))


@pytest.mark.parametrize(("gae_lambda", "critic_error"), [(0.0, 0.0), (1.0, 1.0)])
def test_gae_draws(gae_lambda, critic_error):
    assert png(draw_gae_at(gae_lambda, critic_error))


def test_a_worse_critic_means_more_bias_and_a_larger_lambda_means_more_spread():
    good, bad = gae_errors(0.0), gae_errors(1.0)
    assert (bad[0] > good[0]).all()
    assert good[1][-1] > 2 * good[1][0]


def test_clock_and_training_draw():
    curves = {"right": np.zeros(5), "wrong": np.arange(5.0)}
    assert png(plots.draw_clock(curves, np.arange(3), {"exact": np.zeros(3)}))
    plain = png(plots.draw_training([0.0, 1.0], [0.0, 0.0], 10.0))
    assert plain != png(plots.draw_training([0.0, 1.0], [0.0, 0.0], 10.0, [0.2, 0.3]))


@pytest.mark.parametrize("new_mean", [-2.0, 1.0, 4.5])
def test_the_surrogate_draws(new_mean):
    assert png(draw_surrogate_at(new_mean, 10))
