"""The worlds of one step: closed forms against finite differences and sums."""

import numpy as np
import pytest

from kfcpo_lib import bandits


def test_expected_reward_is_the_integral() -> None:
    world, mean, std = bandits.GaussianBandit(), 1.2, 0.6
    a = np.linspace(-10, 12, 20_001)
    density = np.exp(-0.5 * ((a - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    reward = np.exp(-0.5 * ((a - world.target) / world.width) ** 2)
    integral = (density * reward).sum() * (a[1] - a[0])
    assert world.expected_reward(mean, np.log(std)) == pytest.approx(integral, rel=1e-8)


def test_gradient_by_finite_differences() -> None:
    world, at, h = bandits.GaussianBandit(), np.array([0.4, -0.3]), 1e-6
    slopes = [
        (world.expected_reward(*(at + h * e)) - world.expected_reward(*(at - h * e))) / (2 * h)
        for e in np.eye(2)
    ]
    np.testing.assert_allclose(world.gradient(*at), slopes, atol=1e-8)


def test_fisher_is_the_curvature_of_the_kl() -> None:
    at, step = np.array([0.4, -0.8]), 1e-4 * np.array([0.6, -0.8])
    quadratic = 0.5 * step @ bandits.gaussian_fisher(at[1]) @ step
    assert bandits.gaussian_kl(at, at + step) == pytest.approx(quadratic, rel=1e-3)


@pytest.mark.parametrize("name", bandits.COORDINATES)
def test_slopes_of_the_coordinates(name: str) -> None:
    c, log_std, h = bandits.COORDINATES[name], -0.4, 1e-6
    there = c.log_std(c.spread(log_std) + h)
    assert c.log_std(c.spread(log_std)) == pytest.approx(log_std)
    assert (there - log_std) / h == pytest.approx(c.slope(log_std), rel=1e-4)


def test_natural_paths_do_not_depend_on_coordinates_but_plain_ones_do() -> None:
    ends = {
        natural: np.array(
            [
                bandits.ascent_path((0.0, -1.2), 100, natural=natural, coordinates=c)[-1]
                for c in bandits.COORDINATES.values()
            ]
        )
        for natural in (True, False)
    }
    assert np.ptp(ends[True], axis=0).max() < 0.02
    assert np.ptp(ends[False], axis=0).max() > 0.5


def test_paths_stay_finite_under_wild_steps() -> None:
    for c in bandits.COORDINATES.values():
        path = bandits.ascent_path(
            (0.0, -1.2), 60, natural=False, coordinates=c, learning_rate=30.0
        )
        assert np.isfinite(path).all()


def test_natural_gradient_of_softmax_is_the_rewards() -> None:
    p, rewards = np.array([0.02, 0.08, 0.9]), np.array([1.0, 0.6, 0.0])
    direction = np.linalg.pinv(bandits.softmax_fisher(p)) @ (p * (rewards - p @ rewards))
    np.testing.assert_allclose(direction, rewards - rewards.mean(), atol=1e-9)
    path = bandits.softmax_path(p, rewards, 5, natural=True, learning_rate=0.5)
    np.testing.assert_allclose(path.sum(axis=1), 1.0)
