"""The point-mass world by camera and with flickering eyes: what is seen, what stays the same."""

import numpy as np
import pytest

from kfcpo_lib.envs import TOYS, make_vec_env
from kfcpo_lib.envs.toy_senses import (
    MOMENT,
    OPEN_EYES,
    PIXELS,
    VIEW_HALF_WIDTH,
    WINDOW,
    FlickerPointMassVecEnv,
    FlickerWindowPointMassVecEnv,
    PixelPointMassVecEnv,
)

PIXEL = 2 * VIEW_HALF_WIDTH / PIXELS
FAR = np.full((1, 4, 2), 9.0)


def camera(goal=(9.0, 9.0), hazards=FAR, velocity=(0.0, 0.0)):
    """[3, 12, 12] the picture of a point in the middle of the world."""
    env = PixelPointMassVecEnv(1, 0)
    env.reset()
    env.position[:], env.velocity[:], env.goal[:], env.hazards[:] = 0.0, velocity, goal, hazards
    return env._observe().reshape(env.obs_shape)


def centroid(channel):
    """(x, y) in pixels from the picture's middle; rows are y."""
    middle = np.arange(PIXELS) - (PIXELS - 1) / 2
    return channel.sum(0) @ middle / channel.sum(), channel.sum(1) @ middle / channel.sum()


@pytest.mark.parametrize("env_id", TOYS)
def test_every_sense_says_its_shape_and_shares_the_physics(env_id):
    env = make_vec_env(env_id, 3, seed=5)
    assert env.env_id == env_id
    assert env.obs_dim == np.prod(env.obs_shape)
    assert env.reset().shape == (3, env.obs_dim)
    position, velocity = env.position.copy(), env.velocity.copy()
    result = env.step(np.full((3, 2), 0.5))
    assert result.obs.shape == result.final_obs.shape == (3, env.obs_dim)
    moved = 0.05 * (velocity + 0.05 * 0.5)
    np.testing.assert_allclose(env.position, position + moved)


@pytest.mark.parametrize("env_id", TOYS)
def test_a_saved_world_goes_on_to_the_same_bits(env_id):
    env, twin = make_vec_env(env_id, 3, seed=5), make_vec_env(env_id, 3, seed=6)
    env.reset()
    twin.reset()
    actions = np.random.default_rng(0).normal(0.0, 1.0, (260, 3, 2))
    for action in actions[:30]:
        env.step(action)
    twin.set_state(env.state())
    for action in actions[30:]:  # past the end of an episode
        for mine, other in zip(env.step(action), twin.step(action), strict=True):
            assert np.array_equal(mine, other)


# ---------------------------------------------------------------------------------- the camera


def test_the_goal_is_where_it_is_to_a_fraction_of_a_pixel():
    goal = (0.7, -0.4)
    x, y = centroid(camera(goal)[1])
    assert (x * PIXEL, y * PIXEL) == pytest.approx(goal, abs=0.02)


def test_a_goal_out_of_view_shines_at_the_edge_in_its_direction():
    inside, outside = camera((0.0, 1.5))[1], camera((0.0, 3.0))[1]
    np.testing.assert_allclose(inside, outside)
    assert outside.argmax() // PIXELS == PIXELS - 1


def test_the_trail_points_against_the_velocity():
    x, y = centroid(camera(velocity=(1.0, 0.0))[0])
    assert x * PIXEL == pytest.approx(-0.5, abs=0.02)
    assert y == pytest.approx(0.0, abs=1e-6)


def test_hazards_cover_their_area_and_overlaps_count_once():
    hazards = FAR.copy()
    hazards[0, :2] = 0.3, 0.2
    channel = camera(hazards=hazards)[2]
    assert channel.sum() * PIXEL**2 == pytest.approx(np.pi * 0.3**2, rel=0.15)
    assert 0 <= channel.min() <= channel.max() <= 1


# ---------------------------------------------------------------------------- flickering eyes


def test_open_eyes_see_everything_but_speed_and_shut_ones_nothing():
    env = FlickerPointMassVecEnv(200, 0)
    env.reset()
    share = []
    for _ in range(100):
        obs = env.step(np.ones((200, 2))).obs
        seeing = obs[:, -1] == 1.0
        assert (obs[~seeing] == 0).all()
        np.testing.assert_array_equal(obs[seeing, :2], env.position[seeing])
        np.testing.assert_allclose(obs[seeing, 2:4], (env.goal - env.position)[seeing])
        share.append(seeing.mean())
    # 20,000 throws: four standard errors.
    assert np.mean(share) == pytest.approx(OPEN_EYES, abs=4 * np.sqrt(2 / 9 / 20_000))


def test_a_window_holds_the_last_moments_and_begins_anew_with_the_episode():
    eyes, window = FlickerPointMassVecEnv(2, 3), FlickerWindowPointMassVecEnv(2, 3)
    seen = [np.zeros((2, MOMENT))] * (WINDOW - 1) + [eyes.reset()]
    np.testing.assert_array_equal(window.reset(), np.stack(seen, axis=1).reshape(2, -1))
    actions = np.random.default_rng(0).normal(0.0, 1.0, (220, 2, 2))
    for t, action in enumerate(actions):
        one, many = eyes.step(action), window.step(action)
        before = np.stack([*seen[1:], one.final_obs], axis=1).reshape(2, -1)
        np.testing.assert_array_equal(many.final_obs, before)
        seen = [*seen[1:], one.obs]
        if one.truncated.all():
            assert t == 199
            seen = [np.zeros((2, MOMENT))] * (WINDOW - 1) + [one.obs]
        np.testing.assert_array_equal(many.obs, np.stack(seen, axis=1).reshape(2, -1))
