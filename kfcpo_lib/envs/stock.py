"""Stock environments behind the course's interface: slow, and the reference."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfcpo_lib.envs.interface import Array, StepResult, staggered_lengths
from kfcpo_lib.envs.safety_gym import make_stock


class StockVecEnv:
    """`num_envs` stock environments stepped one after the other.

    Environment i is reset with the seed `seed + i` first, and without a seed ever after.

    Args:
        env_id: of a Safety Gymnasium task, or whatever `make` knows.
        num_envs: how many.
        seed: of environment 0.
        make: id -> an environment whose `step` returns a cost after the reward.
    """

    def __init__(
        self, env_id: str, num_envs: int, seed: int, make: Callable[[str], Any] = make_stock
    ) -> None:
        self.env_id = env_id
        self.num_envs = num_envs
        self.envs = [make(env_id) for _ in range(num_envs)]
        self.obs_dim = int(np.prod(self.envs[0].observation_space.shape))
        self.obs_shape: tuple[int, ...] = (self.obs_dim,)
        self.act_dim = int(np.prod(self.envs[0].action_space.shape))
        self.max_episode_steps = int(self.envs[0].spec.max_episode_steps)
        self.simulator_errors = 0
        self._seeds: list[int | None] = [seed + i for i in range(num_envs)]
        self._cut_after = np.full(num_envs, self.max_episode_steps)
        self._steps = np.zeros(num_envs, dtype=np.int64)

    def reset(self, *, stagger: bool = False) -> Array:
        """Start new episodes; [num_envs, obs_dim]."""
        self._steps[:] = 0
        self._cut_after[:] = self.max_episode_steps
        if stagger:
            self._cut_after[:] = staggered_lengths(self.num_envs, self.max_episode_steps)
        return np.stack([self._reset_one(i) for i in range(self.num_envs)])

    def step(self, actions: Array) -> StepResult:
        """Step all environments; `actions` is [num_envs, act_dim]."""
        final_obs = np.empty((self.num_envs, self.obs_dim))
        reward, cost = np.empty(self.num_envs), np.empty(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=bool)
        truncated = np.zeros(self.num_envs, dtype=bool)
        for i, env in enumerate(self.envs):
            final_obs[i], reward[i], cost[i], terminated[i], truncated[i] = self._step_one(
                i, env, actions[i]
            )
        self._steps += 1
        truncated |= self._steps >= self._cut_after
        obs = final_obs.copy()
        for i in np.flatnonzero(terminated | truncated):
            obs[i] = self._reset_one(i)
            self._steps[i], self._cut_after[i] = 0, self.max_episode_steps
        return StepResult(obs, reward, cost, terminated, truncated, final_obs)

    def _step_one(self, i: int, env: Any, action: Array) -> tuple[Array, float, float, bool, bool]:
        try:
            obs, reward, cost, terminated, truncated, _ = env.step(action)
        except UnboundLocalError:
            # After an exception of MuJoCo the stock step returns a cost that it never assigned.
            self.simulator_errors += 1
            task = env.unwrapped.task
            return np.ravel(task.obs()), task.reward_conf.reward_exception, 1.0, False, True
        return np.ravel(obs), reward, cost, terminated, truncated

    def _reset_one(self, i: int) -> Array:
        seed, self._seeds[i] = self._seeds[i], None
        return np.ravel(self.envs[i].reset(seed=seed)[0])

    def state(self) -> dict[str, Any] | None:
        """None: a stock environment cannot be saved."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Not possible for stock environments."""
        raise NotImplementedError(f"stock {self.env_id} environments cannot be restored")

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
