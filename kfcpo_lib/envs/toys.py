"""The point-mass world: a safe navigation task that trains in seconds, in plain NumPy.

A point of unit mass with drag moves in a square by two forces. It earns the distance it gains
towards a goal, and 1 when it gets there; it pays 1 for each step inside a hazard disc.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.envs.interface import Array, StepResult, staggered_lengths

HALF_WIDTH = 1.5
TIME_STEP = 0.05
DRAG = 0.5
GOAL_RADIUS = 0.2
GOAL_CLEARANCE = 0.5
"""A new goal is at least this far from the point."""
HAZARD_RADIUS = 0.3
HAZARD_CENTRES = 0.45 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
"""One hazard lies in each quarter of the square, between most places and most goals."""
HAZARDS = len(HAZARD_CENTRES)
HAZARD_JITTER = 0.3
"""Its centre is moved by up to so much in both directions, anew each episode."""


class PointMassVecEnv:
    """`PointMass-v0`: `num_envs` points side by side; episodes of 200 steps, cut by time.

    Observation [14]: position, velocity, vector to the goal, vectors to the four hazards.
    Actions [2]: forces, clipped to [-1, 1]. All environments draw from one generator.
    """

    env_id = "PointMass-v0"
    obs_dim = 6 + 2 * HAZARDS
    obs_shape: tuple[int, ...] = (obs_dim,)
    act_dim = 2
    max_episode_steps = 200
    simulator_errors = 0

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        self.random = np.random.default_rng(seed)
        self.position = np.zeros((num_envs, 2))
        self.velocity = np.zeros((num_envs, 2))
        self.goal = np.zeros((num_envs, 2))
        self.hazards = np.zeros((num_envs, HAZARDS, 2))
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.cut_after = np.full(num_envs, self.max_episode_steps)

    def reset(self, *, stagger: bool = False) -> Array:
        """Start new episodes; [num_envs, obs_dim]."""
        self._start(np.ones(self.num_envs, dtype=bool))
        if stagger:
            self.cut_after[:] = staggered_lengths(self.num_envs, self.max_episode_steps)
        return self._observe()

    def step(self, actions: Array) -> StepResult:
        """Step all environments; `actions` is [num_envs, 2]."""
        distance_before = self._goal_distance()
        self._move(np.clip(actions, -1.0, 1.0))
        distance = self._goal_distance()
        reached = distance < GOAL_RADIUS
        reward = distance_before - distance + reached
        cost = self._inside_hazard().astype(np.float64)
        self._draw_goal(reached)
        self.steps += 1
        truncated = self.steps >= self.cut_after
        final_obs = self._observe()
        obs = final_obs
        if truncated.any():
            self._start(truncated)
            obs = self._observe()
        return StepResult(obs, reward, cost, np.zeros_like(truncated), truncated, final_obs)

    def _move(self, force: Array) -> None:
        """Semi-implicit Euler; a wall stops the motion into it."""
        self.velocity += TIME_STEP * (force - DRAG * self.velocity)
        unbounded = self.position + TIME_STEP * self.velocity
        self.position = np.clip(unbounded, -HALF_WIDTH, HALF_WIDTH)
        self.velocity[self.position != unbounded] = 0.0

    def _goal_distance(self) -> Array:
        offset = self.goal - self.position
        distance: Array = np.sqrt((offset**2).sum(axis=-1))
        return distance

    def _inside_hazard(self) -> NDArray[np.bool_]:
        offset = self.hazards - self.position[:, None]
        inside: NDArray[np.bool_] = ((offset**2).sum(axis=-1) < HAZARD_RADIUS**2).any(axis=1)
        return inside

    def _observe(self) -> Array:
        here = self.position[:, None]
        offsets = np.concatenate([self.goal[:, None] - here, self.hazards - here], axis=1)
        flat = offsets.reshape(self.num_envs, -1)
        return np.concatenate([self.position, self.velocity, flat], axis=1)

    def _start(self, which: NDArray[np.bool_]) -> None:
        """New episodes: hazards, the point outside them at rest, and a goal."""
        jitter = self.random.uniform(-HAZARD_JITTER, HAZARD_JITTER, (int(which.sum()), HAZARDS, 2))
        self.hazards[which] = HAZARD_CENTRES + jitter
        self.velocity[which], self.steps[which] = 0.0, 0
        self.cut_after[which] = self.max_episode_steps
        open_places = which.copy()
        while open_places.any():
            self.position[open_places] = self._anywhere(open_places)
            open_places &= self._inside_hazard()
        self._draw_goal(which)

    def _draw_goal(self, which: NDArray[np.bool_]) -> None:
        open_places = which.copy()
        while open_places.any():
            self.goal[open_places] = self._anywhere(open_places)
            open_places &= self._goal_distance() < GOAL_CLEARANCE

    def _anywhere(self, which: NDArray[np.bool_]) -> Array:
        return self.random.uniform(-HALF_WIDTH, HALF_WIDTH, (int(which.sum()), 2))

    def layout(self) -> dict[str, Any]:
        """Where everything is, for drawing from above; as of `SafetyVecEnv`."""
        return {
            "agent": self.position.copy(),
            "objects": {"goal": self.goal[:, None].copy(), "hazards": self.hazards.copy()},
            "sizes": {"goal": GOAL_RADIUS, "hazards": HAZARD_RADIUS},
        }

    def state(self) -> dict[str, Any]:
        """Positions, counters and the generator, as arrays, numbers and strings."""
        generator = dict(self.random.bit_generator.state)
        generator["state"] = {name: str(word) for name, word in generator["state"].items()}
        return {name: getattr(self, name).copy() for name in self._SAVED} | {"generator": generator}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        for name in self._SAVED:
            setattr(self, name, state[name].copy())
        generator = dict(state["generator"])
        generator["state"] = {name: int(word) for name, word in generator["state"].items()}
        self.random.bit_generator.state = generator

    def close(self) -> None:
        """Nothing to free."""

    _SAVED: tuple[str, ...] = ("position", "velocity", "goal", "hazards", "steps", "cut_after")
