"""MuJoCo's robots with a cost: the same motion as Gymnasium's, the cost taken out of the reward."""

import gymnasium
import numpy as np
import pytest

from kfcpo_lib.envs import check_env_id, make_vec_env
from kfcpo_lib.envs.locomotion import CONTROL_COST, HEALTH_COST, LOCOMOTION


def actions_of(env, steps, seed=0):
    return np.random.default_rng(seed).normal(0.0, 0.7, (steps, env.num_envs, env.act_dim))


@pytest.mark.parametrize("env_id", LOCOMOTION)
def test_every_robot_has_the_interface_of_the_other_worlds(env_id):
    check_env_id(env_id)
    env = make_vec_env(env_id, 2, seed=3)
    assert env.reset().shape == (2, env.obs_dim)
    assert env.obs_shape == (env.obs_dim,)
    result = env.step(actions_of(env, 1)[0])
    assert result.obs.shape == (2, env.obs_dim)
    assert (result.cost >= 0).all()
    assert (result.cost <= 1).all()
    env.close()


def test_control_cost_is_the_mean_squared_action_and_no_longer_in_the_reward():
    """Gymnasium's own cheetah, from the same seed: its reward is ours less 0.1 times the energy."""
    env, stock = make_vec_env("ControlCostHalfCheetah-v4", 1, 7), gymnasium.make("HalfCheetah-v4")
    np.testing.assert_array_equal(env.reset()[0], stock.reset(seed=7)[0])
    for action in actions_of(env, 50):
        result = env.step(action)
        clipped = np.clip(action[0], -1, 1)
        obs, reward, *_ = stock.step(clipped)
        np.testing.assert_array_equal(result.obs[0], obs)
        energy = np.sum(clipped**2)
        assert result.cost[0] == pytest.approx(energy / 6)
        assert result.reward[0] == pytest.approx(reward + 0.1 * energy)


def test_energy_is_measured_against_the_largest_force():
    env = make_vec_env("ControlCostAnt-v4", 1, 0)
    env.reset()
    assert env.step(np.full((1, 8), 9.0)).cost[0] == 1.0
    assert env.step(np.zeros((1, 8))).cost[0] == 0.0


def test_health_cost_counts_the_steps_that_gymnasium_calls_unhealthy_and_ends_none():
    env = make_vec_env("HealthCostHopper-v4", 2, 5)
    env.reset()
    costs = []
    for action in actions_of(env, 200):
        result = env.step(action)
        healthy = [robot.unwrapped.is_healthy for robot in env.envs]
        np.testing.assert_array_equal(result.cost, ~np.array(healthy))
        assert not (result.terminated | result.truncated).any()
        costs.append(result.cost)
    assert 0 < np.mean(costs) < 1  # it stood, and it fell


def test_the_two_kinds_of_cost_share_no_id():
    assert not CONTROL_COST.keys() & HEALTH_COST.keys()
    with pytest.raises(ValueError, match="HealthCostSwimmer"):
        check_env_id("HealthCostSwimmer-v4")
