"""Explorers of notebook 01: estimates of a gradient, GAE's lambda, the surrogate."""

from functools import cache

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from kfcpo_lib.corridor import Array, Corridor, Walks, gradient_samples
from kfcpo_lib.plots.policy_gradients import (
    STD,
    draw_estimates,
    draw_gae,
    draw_surrogate,
    exact_slope,
    expected_reward,
    reward_of,
)
from kfcpo_lib.rollouts import gae
from kfcpo_lib.widgets.controls import slider
from kfcpo_lib.widgets.explorer import Explorer

MEAN = 1.0
RIGHT = np.full(8, 0.6)
"""The corridor's policy: a little more often right than left."""
EPISODES_PER_BATCH = 20
LAMBDAS = np.array([0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
BATCHES = 1_000


@cache
def _tries(count: int) -> Array:
    noise = np.random.default_rng(0).standard_normal((BATCHES, count))
    return np.asarray(MEAN + STD * noise)


def estimate(batch_size: int, reward_offset: float, baseline: bool) -> Array:
    """[1000] estimates of dJ/dmean on the bandit, each from a batch of `batch_size` tries."""
    actions = _tries(batch_size)
    credit = reward_of(actions) + reward_offset
    if baseline:
        credit = credit - (float(expected_reward(MEAN)) + reward_offset)
    return np.asarray((credit * (actions - MEAN) / STD**2).mean(axis=1))


def draw_estimates_at(batch_size: int, reward_offset: float) -> Figure:
    """The same batches without and with a baseline."""
    names = {"without a baseline": False, "with a baseline": True}
    samples = {name: estimate(batch_size, reward_offset, on) for name, on in names.items()}
    return draw_estimates(samples, exact_slope(MEAN))


def estimates_explorer() -> Explorer:
    """Batch size and a constant added to all rewards, against the spread of the estimates."""
    return Explorer(
        draw_estimates_at,
        "Histograms of 1,000 batches' estimates of the gradient, without and with a baseline.",
        batch_size=ipywidgets.IntSlider(10, min=2, max=100, step=2, description="batch size"),
        reward_offset=slider("added to all rewards", 0.0, -5.0, 5.0, 0.5),
    )


@cache
def some_walks(episodes: int = 1_000) -> Walks:
    """Episodes in the corridor, drawn once."""
    return Corridor().walk(RIGHT, episodes, np.random.default_rng(0))


def corridor_gradients(gae_lambda: float, critic_error: float) -> Array:
    """[1000, 8] each episode's gradient by GAE, with a critic that is wrong by a share.

    The critic says (1 - critic_error) V(s): 0 is exact, 1 is no critic at all.
    """
    walks = some_walks()
    values = (1.0 - critic_error) * Corridor().values(RIGHT)
    value, next_value = values[walks.state] * walks.alive, values[walks.next_state]
    ends = walks.terminated, walks.truncated
    return gradient_samples(
        walks, RIGHT, gae(walks.reward, value, next_value, *ends, 1.0, gae_lambda)
    )


@cache
def gae_errors(critic_error: float) -> tuple[Array, Array]:
    """Bias and spread of a batch's gradient for each of `LAMBDAS`."""
    exact, bias, spread = Corridor().gradient(RIGHT), [], []
    for gae_lambda in LAMBDAS:
        samples = corridor_gradients(float(gae_lambda), critic_error)
        bias.append(np.linalg.norm(samples.mean(axis=0) - exact))
        spread.append(np.sqrt(samples.var(axis=0).sum() / EPISODES_PER_BATCH))
    return np.array(bias), np.array(spread)


def draw_gae_at(gae_lambda: float, critic_error: float) -> Figure:
    """Bias, spread and their sum over lambda, for a critic that is wrong by a share."""
    return draw_gae(LAMBDAS, *gae_errors(critic_error), gae_lambda)


def gae_explorer() -> Explorer:
    """Lambda and the critic's error against the error of the gradient."""
    return Explorer(
        draw_gae_at,
        "Left: the weights of the surprises. Right: bias, spread and error of a batch's gradient.",
        gae_lambda=slider("λ of GAE", 0.9, 0.0, 1.0, 0.05),
        critic_error=slider("critic's error", 0.5, 0.0, 1.0, 0.25),
    )


def draw_surrogate_at(new_mean: float, samples: int, seed: int = 0) -> Figure:
    """Data of the old policy (mean 1), judged for a new mean."""
    actions = MEAN + STD * np.random.default_rng(seed).standard_normal(samples)
    return draw_surrogate(MEAN, new_mean, actions, float(expected_reward(MEAN)))


def surrogate_explorer() -> Explorer:
    """How far old data can see."""
    return Explorer(
        draw_surrogate_at,
        "Left: old and new policy, and how much each sample counts. Right: surrogate and truth.",
        new_mean=slider("new mean", 1.3, -2.0, 4.5, 0.1),
        samples=ipywidgets.IntSlider(100, min=10, max=1000, step=10, description="samples"),
        seed=ipywidgets.IntSlider(0, min=0, max=20, description="other samples"),
    )
