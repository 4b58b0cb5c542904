"""The point-mass world: its physics by hand, its rewards, costs and ends."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.envs.interface import Array, StepResult
from kfcpo_lib.envs.toys import (
    GOAL_CLEARANCE,
    GOAL_RADIUS,
    HALF_WIDTH,
    HAZARD_CENTRES,
    HAZARD_JITTER,
    HAZARD_RADIUS,
    PointMassVecEnv,
)

FAR_AWAY = np.array([[[9.0, 9.0]] * 4])


def placed(
    position: tuple[float, float],
    velocity: tuple[float, float] = (0.0, 0.0),
    goal: tuple[float, float] = (1.4, 1.4),
    hazards: Array = FAR_AWAY,
) -> PointMassVecEnv:
    """One point where we want it; hazards out of the way unless given."""
    env = PointMassVecEnv(1, 0)
    env.reset()
    env.position[:], env.velocity[:], env.goal[:] = position, velocity, goal
    env.hazards[:] = hazards
    return env


def push(env: PointMassVecEnv, x: float, y: float) -> StepResult:
    return env.step(np.array([[x, y]]))


def random_actions(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(0.0, 2.0, (*shape, 2))


def chase(env: PointMassVecEnv, gain: float = 3.0) -> Array:
    """Forces towards the goal, braking: gets there often."""
    return gain * (env.goal - env.position) - env.velocity


# -------------------------------------------------------------------------------------- interface


def test_it_has_the_interface_of_the_real_world() -> None:
    env = make_vec_env("PointMass-v0", 3, seed=5)
    assert isinstance(env, PointMassVecEnv)
    assert (env.env_id, env.num_envs, env.obs_dim, env.act_dim) == ("PointMass-v0", 3, 14, 2)
    assert env.max_episode_steps == 200
    obs = env.reset()
    result = env.step(np.zeros((3, 2)))
    assert obs.shape == result.obs.shape == result.final_obs.shape == (3, 14)
    assert obs.dtype == result.obs.dtype == result.reward.dtype == result.cost.dtype == np.float64
    for flags in (result.terminated, result.truncated):
        assert flags.shape == (3,)
        assert flags.dtype == np.bool_
    assert result.reward.shape == result.cost.shape == (3,)
    env.close()


def test_observations_are_position_velocity_and_vectors_to_goal_and_hazards() -> None:
    hazards = np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])
    env = placed((0.25, -0.5), (0.0, 0.0), (1.0, 1.0), hazards)
    obs = push(env, 0.0, 0.0).obs[0]
    to_hazards = [0.75, 0.5, -0.25, 1.5, -1.25, 0.5, -0.25, -0.5]
    assert obs.tolist() == [0.25, -0.5, 0.0, 0.0, 0.75, 1.5, *to_hazards]


# ---------------------------------------------------------------------------------------- physics


def test_two_steps_of_physics_by_hand() -> None:
    """v' = v + 0.05 (f - 0.5 v), then x' = x + 0.05 v'; a force of 7 counts as 1."""
    env = placed((0.0, 0.0), (0.4, -0.2))
    push(env, 7.0, -0.5)
    v1 = (0.4 + 0.05 * (1.0 - 0.2), -0.2 + 0.05 * (-0.5 + 0.1))
    np.testing.assert_allclose(env.velocity[0], v1, rtol=1e-15)
    np.testing.assert_allclose(v1, (0.44, -0.22))
    np.testing.assert_allclose(env.position[0], (0.022, -0.011), rtol=1e-14)
    push(env, 0.0, 0.0)
    np.testing.assert_allclose(env.velocity[0], (0.44 * 0.975, -0.22 * 0.975), rtol=1e-14)
    np.testing.assert_allclose(env.position[0], (0.022 + 0.02145, -0.011 - 0.010725), rtol=1e-13)


def test_drag_bounds_the_speed() -> None:
    """A steady force of 1 against a drag of 0.5 v: never faster than 2; x itself ends at a wall."""
    env = placed((-1.5, 0.0), goal=(0.0, 1.4))
    speeds = []
    for _ in range(60):
        push(env, 1.0, 0.0)
        speeds.append(float(env.velocity[0, 0]))
    exact = [2 * (1 - 0.975**n) for n in range(1, len(speeds) + 1)]
    moving = list(itertools.takewhile(lambda pair: pair[0] > 0, zip(speeds, exact, strict=True)))
    assert len(moving) > 30
    np.testing.assert_allclose(*np.transpose(moving), rtol=1e-12)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_wall_stops_the_motion_into_it_and_only_that(side: float) -> None:
    env = placed((side * 1.49, 0.0), (side * 1.0, 0.5), goal=(0.0, 1.4))
    push(env, side, 0.0)
    assert env.position[0, 0] == side * HALF_WIDTH
    assert env.velocity[0, 0] == 0.0
    np.testing.assert_allclose(env.velocity[0, 1], 0.5 * 0.975)
    np.testing.assert_allclose(env.position[0, 1], 0.05 * 0.5 * 0.975)
    push(env, -side, 0.0)  # and it lets go
    assert abs(env.position[0, 0]) < HALF_WIDTH


@given(st.integers(0, 1000))
def test_the_point_never_leaves_the_square_and_all_numbers_are_finite(seed: int) -> None:
    env = PointMassVecEnv(4, seed)
    env.reset()
    for actions in 1e3 * random_actions(seed, 50, 4):
        result = env.step(actions)
        assert (np.abs(env.position) <= HALF_WIDTH).all()
        assert all(np.isfinite(array).all() for array in result)


def test_the_callers_actions_are_not_changed() -> None:
    env = placed((0.0, 0.0))
    actions = np.array([[7.0, -3.0]])
    env.step(actions)
    assert actions.tolist() == [[7.0, -3.0]]


# --------------------------------------------------------------------------------- reward and cost


def test_reward_is_the_distance_gained_by_hand() -> None:
    env = placed((0.0, 0.0), (1.0, 0.0), goal=(1.0, 0.0))
    result = push(env, 0.5, 0.0)  # force and drag cancel: moves 0.05 to the right
    np.testing.assert_allclose(result.reward, [0.05], rtol=1e-12)
    env = placed((0.0, 0.0), (-1.0, 0.0), goal=(1.0, 0.0))
    np.testing.assert_allclose(push(env, -0.5, 0.0).reward, [-0.05], rtol=1e-12)


def test_reaching_the_goal_pays_one_and_draws_another() -> None:
    goal = (GOAL_RADIUS + 0.04, 0.0)
    env = placed((0.0, 0.0), (1.0, 0.0), goal=goal)
    result = push(env, 0.5, 0.0)
    np.testing.assert_allclose(result.reward, [1.05], rtol=1e-12)
    assert tuple(env.goal[0]) != goal
    assert np.linalg.norm(env.goal[0] - env.position[0]) >= GOAL_CLEARANCE
    np.testing.assert_array_equal(result.obs[0, 4:6], env.goal[0] - env.position[0])
    assert not result.terminated.any()
    just_outside = placed((0.0, 0.0), (1.0, 0.0), goal=(GOAL_RADIUS + 0.06, 0.0))
    np.testing.assert_allclose(push(just_outside, 0.5, 0.0).reward, [0.05], rtol=1e-12)


def test_rewards_telescope_to_distances_gained_and_goals_reached() -> None:
    """Between two draws of the goal the rewards add up to the distance gained; a goal adds 1."""
    env = PointMassVecEnv(1, 3)
    env.reset()
    goals, since_draw = 0, 0.0
    goal, start = env.goal.copy(), np.linalg.norm(env.goal - env.position)
    for _ in range(env.max_episode_steps - 1):
        since_draw += float(env.step(chase(env)).reward[0])
        gained = start - np.linalg.norm(goal - env.position)
        reached = not (env.goal == goal).all()
        assert since_draw == pytest.approx(gained + reached, abs=1e-12)
        assert reached == (np.linalg.norm(goal - env.position) < GOAL_RADIUS)
        if reached:
            goals, since_draw = goals + 1, 0.0
            goal, start = env.goal.copy(), np.linalg.norm(env.goal - env.position)
    assert goals >= 3


def test_cost_is_one_inside_any_hazard() -> None:
    hazards = np.array([[[0.0, 0.0], [0.1, 0.0], [9.0, 9.0], [9.0, 9.0]]])
    for distance, inside in ((0.0, 1.0), (HAZARD_RADIUS + 0.09, 1.0), (HAZARD_RADIUS + 0.11, 0.0)):
        env = placed((distance, 0.0), hazards=hazards)  # two discs at once still cost 1
        assert push(env, 0.0, 0.0).cost.tolist() == [inside]


def test_cost_is_where_the_step_ends() -> None:
    hazards = np.array([[[0.0, 0.0]] * 4])
    entering = placed((HAZARD_RADIUS + 0.01, 0.0), (-1.0, 0.0), hazards=hazards)
    assert push(entering, -0.5, 0.0).cost.tolist() == [1.0]
    leaving = placed((HAZARD_RADIUS - 0.01, 0.0), (1.0, 0.0), hazards=hazards)
    assert push(leaving, 0.5, 0.0).cost.tolist() == [0.0]


def test_costs_are_those_of_a_plain_loop() -> None:
    env = PointMassVecEnv(8, 1)
    env.reset()
    seen = 0.0
    for _ in range(150):  # no episode ends
        cost = env.step(chase(env)).cost
        for i in range(8):
            distances = [math.dist(env.position[i], hazard) for hazard in env.hazards[i]]
            assert cost[i] == float(min(distances) < HAZARD_RADIUS)
        seen += cost.sum()
    assert seen > 10


# ----------------------------------------------------------------------------- episodes and draws


def test_episodes_are_cut_after_200_steps_and_start_anew() -> None:
    env = PointMassVecEnv(2, 0)
    env.reset()
    ends = []
    for t in range(1, 601):
        result = env.step(chase(env))
        assert not result.terminated.any()
        if result.truncated.any():
            assert result.truncated.all()
            ends.append(t)
    assert ends == [200, 400, 600]


def test_the_last_observation_is_of_the_old_episode_and_the_next_one_of_the_new() -> None:
    env = PointMassVecEnv(3, 0)
    env.reset(stagger=True)  # ends after 67, 134 and 200 steps
    for t in range(200):
        hazards = env.hazards.copy()
        result = env.step(random_actions(t, 3))
        ended = result.truncated
        np.testing.assert_array_equal(result.obs[~ended], result.final_obs[~ended])
        np.testing.assert_array_equal(env.hazards[~ended], hazards[~ended])
        old = result.final_obs[ended]
        vectors = hazards[ended] - old[:, None, :2]
        np.testing.assert_array_equal(old[:, 6:].reshape(-1, 4, 2), vectors)
        new = result.obs[ended]
        np.testing.assert_array_equal(new[:, 2:4], 0.0)  # at rest
        np.testing.assert_array_equal(new[:, :2], env.position[ended])
        assert (env.hazards[ended] != hazards[ended]).all()
        assert (env.steps[ended] == 0).all()


def test_staggered_first_episodes_end_evenly_and_later_ones_are_whole() -> None:
    env = PointMassVecEnv(4, 0)
    env.reset(stagger=True)
    ends: list[list[int]] = [[] for _ in range(4)]
    for t in range(1, 461):
        for i in np.flatnonzero(env.step(np.zeros((4, 2))).truncated):
            ends[i].append(t)
    assert ends == [[50, 250, 450], [100, 300], [150, 350], [200, 400]]
    env.reset()  # a plain reset forgets it
    assert not any(env.step(np.zeros((4, 2))).truncated.any() for _ in range(199))
    assert env.step(np.zeros((4, 2))).truncated.all()


def test_draws_lie_where_they_should_and_differ_between_environments() -> None:
    env = PointMassVecEnv(500, 0)
    env.reset()
    assert (np.abs(env.position) <= HALF_WIDTH).all()
    assert (np.abs(env.goal) <= HALF_WIDTH).all()
    assert (np.abs(env.hazards - HAZARD_CENTRES) <= HAZARD_JITTER).all()
    to_hazards = np.linalg.norm(env.hazards - env.position[:, None], axis=-1)
    assert (to_hazards >= HAZARD_RADIUS).all()
    assert (np.linalg.norm(env.goal - env.position, axis=-1) >= GOAL_CLEARANCE).all()
    for drawn in (env.position, env.goal, env.hazards):
        assert len(np.unique(drawn.reshape(500, -1), axis=0)) == 500
    # Uniform draws fill their range: 2000 of them leave gaps of a few per mille at both ends.
    spread = env.hazards - HAZARD_CENTRES
    assert spread.min() < -0.98 * HAZARD_JITTER
    assert spread.max() > 0.98 * HAZARD_JITTER
    assert abs(spread.mean()) < 0.02


def rolled(env: PointMassVecEnv, steps: int, seed: int = 0) -> list[Array]:
    return [
        np.concatenate([r.obs.ravel(), r.final_obs.ravel(), r.reward, r.cost, r.truncated])
        for r in (env.step(a) for a in random_actions(seed, steps, env.num_envs))
    ]


def test_same_seed_same_bits_other_seed_other_world() -> None:
    def world(seed: int) -> list[Array]:
        env = PointMassVecEnv(3, seed)
        env.reset()
        return rolled(env, 250)

    np.testing.assert_array_equal(world(4), world(4))
    assert not np.array_equal(world(4), world(5))


@pytest.mark.parametrize("stagger", [False, True])
def test_a_saved_state_continues_to_the_same_bits(stagger: bool) -> None:
    """Past several ends and goals, so that the generator's position matters."""
    env, twin = PointMassVecEnv(3, 4), PointMassVecEnv(3, 99)
    env.reset(stagger=stagger)
    rolled(env, 130)
    saved = env.state()
    expected = rolled(env, 450, seed=1)
    for other in (twin, env):  # saved does not move on: it can be used twice
        other.set_state(saved)
        np.testing.assert_array_equal(rolled(other, 450, seed=1), expected)
        np.testing.assert_array_equal(other.layout()["objects"]["goal"][:, 0], other.goal)


def test_layout_is_a_copy() -> None:
    env = placed((0.0, 0.0))
    layout = env.layout()
    assert set(layout["objects"]) == set(layout["sizes"]) == {"goal", "hazards"}
    for array in (layout["agent"], *layout["objects"].values()):
        array += 5.0
    assert env.position.tolist() == [[0.0, 0.0]]
    assert env.goal.tolist() == [[1.4, 1.4]]


def test_environments_do_not_touch_each_other() -> None:
    """Physics of one row depends on that row alone."""
    env = PointMassVecEnv(2, 0)
    env.reset()
    alone = placed(*(tuple(env.position[1]), (0.0, 0.0), tuple(env.goal[1])))
    alone.hazards[:] = env.hazards[1]
    for actions in random_actions(3, 20, 2):
        both, one = env.step(actions), alone.step(actions[1:])
        np.testing.assert_array_equal(both.obs[1], one.obs[0])
        assert both.reward[1] == one.reward[0]
