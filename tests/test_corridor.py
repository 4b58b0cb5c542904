"""The corridor's closed forms, against simulation and finite differences."""

import numpy as np
import pytest

from kfcpo_lib.corridor import Corridor, gradient_samples
from kfcpo_lib.rollouts import gae

RIGHT = np.array([0.5, 0.6, 0.7, 0.6, 0.5, 0.4, 0.6, 0.7])


def test_values_are_minus_the_expected_steps():
    corridor = Corridor(max_steps=800)
    walks = corridor.walk(RIGHT, 2_000, np.random.default_rng(0))
    steps = walks.alive.sum(axis=0)
    assert walks.terminated.sum() == 2_000
    assert not walks.truncated.any()
    value = corridor.values(RIGHT)[corridor.start]
    assert -steps.mean() == pytest.approx(value, abs=4 * steps.std() / 2_000**0.5)


def test_without_a_clock_the_gradient_is_that_of_the_start_value():
    corridor = Corridor(max_steps=3_000)
    logits = np.log(RIGHT / (1 - RIGHT))
    for cell in range(8):
        ends = []
        for sign in (1, -1):
            moved = logits + sign * 1e-4 * np.eye(8)[cell]
            ends.append(corridor.values(1 / (1 + np.exp(-moved)))[corridor.start])
        difference = (ends[0] - ends[1]) / 2e-4
        assert corridor.gradient(RIGHT)[cell] == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_sampled_gradients_with_the_true_critic_have_the_exact_mean(gae_lambda):
    corridor = Corridor()
    walks = corridor.walk(RIGHT, 4_000, np.random.default_rng(1))
    values = corridor.values(RIGHT)
    ends = walks.terminated, walks.truncated
    value, next_value = values[walks.state] * walks.alive, values[walks.next_state]
    credit = gae(walks.reward, value, next_value, *ends, 1.0, gae_lambda)
    samples = gradient_samples(walks, RIGHT, credit)
    error = np.abs(samples.mean(axis=0) - corridor.gradient(RIGHT))
    assert (error < 4.5 * samples.std(axis=0) / 4_000**0.5).all()


def test_truncated_walks_end_with_the_clock():
    walks = Corridor().walk(RIGHT, 500, np.random.default_rng(2))
    ends = walks.terminated | walks.truncated
    assert (ends.sum(axis=0) == 1).all()
    assert walks.truncated[-1].any()
    assert not walks.truncated[:-1].any()
