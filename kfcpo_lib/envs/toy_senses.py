"""The point-mass world through other senses: seen by a camera, or with eyes that flicker.

Physics, rewards and costs are those of `PointMass-v0`; only the observation differs. It is handed
out flat, [num_envs, obs_dim]; `obs_shape` says what a network may make of it.
"""

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.envs.interface import Array, StepResult
from kfcpo_lib.envs.toys import HAZARD_RADIUS, HAZARDS, PointMassVecEnv

PIXELS = 12
VIEW_HALF_WIDTH = 1.5
"""What the camera above the point sees to each side; farther goals shine at the picture's edge."""
BLUR = 0.75
"""Width of goal and trail, in pixels: soft edges show shifts of less than a pixel."""
TRAIL_SECONDS = 0.5
"""The trail ends where the point would have been so long ago at its present velocity."""
MOMENT = 4 + 2 * HAZARDS + 1
"""Numbers of a moment: position, goal, hazards, and whether the eyes were open."""
OPEN_EYES = 1 / 3
"""Share of the moments with open eyes."""
WINDOW = 8
"""Moments that a window holds."""


class PixelPointMassVecEnv(PointMassVecEnv):
    """`PointMassPixels-v0`: pictures of 3 x 12 x 12, from above, the point in the middle.

    Channels: the end of the point's trail (its velocity), the goal, the hazards; from 0 to 1.
    """

    env_id = "PointMassPixels-v0"
    obs_shape = (3, PIXELS, PIXELS)
    obs_dim = 3 * PIXELS * PIXELS

    def _observe(self) -> Array:
        to_goal = self.goal - self.position
        far = np.abs(to_goal).max(axis=1, keepdims=True) / VIEW_HALF_WIDTH
        trail = _spot(-TRAIL_SECONDS * self.velocity)
        goal = _spot(to_goal / np.maximum(far, 1.0))
        hazards = _discs(self.hazards - self.position[:, None])
        return np.stack([trail, goal, hazards], axis=1).reshape(self.num_envs, -1)


class FlickerPointMassVecEnv(PointMassVecEnv):
    """`PointMassFlicker-v0`: eyes that are open at a third of the moments, and never see speed.

    A moment [13]: position, vector to the goal, vectors to the four hazards, and a 1; nothing but
    zeros while the eyes are shut. Each episode begins with open eyes.
    """

    env_id = "PointMassFlicker-v0"
    window = 1
    """Moments in an observation."""
    obs_shape: tuple[int, ...] = (1, MOMENT)
    obs_dim = MOMENT

    def __init__(self, num_envs: int, seed: int) -> None:
        super().__init__(num_envs, seed)
        self.seen = np.zeros((num_envs, *self.obs_shape))
        """[num_envs, window, 13] the last moments, oldest first."""
        self.open_eyes = np.ones(num_envs, dtype=bool)

    def step(self, actions: Array) -> StepResult:
        """Step all environments; `actions` is [num_envs, 2]."""
        self.open_eyes = self.random.random(self.num_envs) < OPEN_EYES
        self.seen = np.roll(self.seen, -1, axis=1)
        return super().step(actions)

    def _observe(self) -> Array:
        self.seen[:, -1] = self._moment() * self.open_eyes[:, None]
        return self.seen.reshape(self.num_envs, -1).copy()

    def _moment(self) -> Array:
        """[num_envs, 13] what open eyes would see."""
        without_speed = np.delete(super()._observe(), [2, 3], axis=1)
        return np.concatenate([without_speed, np.ones((self.num_envs, 1))], axis=1)

    def _start(self, which: NDArray[np.bool_]) -> None:
        super()._start(which)
        self.seen[which], self.open_eyes[which] = 0.0, True

    _SAVED = (*PointMassVecEnv._SAVED, "seen", "open_eyes")


class FlickerWindowPointMassVecEnv(FlickerPointMassVecEnv):
    """`PointMassFlickerWindow-v0`: the same eyes, with the last 8 moments in each observation.

    Moments before an episode's first are zeros, like those of shut eyes.
    """

    env_id = "PointMassFlickerWindow-v0"
    window = WINDOW
    obs_shape = (WINDOW, MOMENT)
    obs_dim = WINDOW * MOMENT


def _pixel_centres() -> Array:
    """[12] places of the pixels' centres, in the world's units, left to right or bottom to top."""
    return (np.arange(PIXELS) + 0.5) / PIXELS * 2 * VIEW_HALF_WIDTH - VIEW_HALF_WIDTH


def _spot(place: Array) -> Array:
    """[N, 12, 12] soft spots at these places [N, 2]; rows are y, columns x."""
    width = BLUR * 2 * VIEW_HALF_WIDTH / PIXELS
    along = np.exp(-0.5 * ((_pixel_centres() - place[..., None]) / width) ** 2)
    spots: Array = along[:, 1, :, None] * along[:, 0, None, :]
    return spots


def _discs(centres: Array) -> Array:
    """[N, 12, 12] union of the hazards around these places [N, hazards, 2], with soft edges."""
    pixel = 2 * VIEW_HALF_WIDTH / PIXELS
    x = _pixel_centres() - centres[..., 0, None]
    y = _pixel_centres() - centres[..., 1, None]
    distance = np.sqrt(y[..., :, None] ** 2 + x[..., None, :] ** 2)
    covered = np.clip((HAZARD_RADIUS - distance) / pixel + 0.5, 0.0, 1.0)
    union: Array = covered.max(axis=1)
    return union
