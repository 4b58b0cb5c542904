"""Watching a trained agent: where it goes, what it earns, what it pays."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.evaluation import EVALUATION_SEED, load_policy
from kfcpo_lib.training import one_torch_thread


@dataclass(frozen=True)
class Track:
    """One episode of one agent, seen from above; lengths in metres."""

    path: Array
    """[T + 1, 2] the agent, before the first step and after every step."""
    reward: Array
    """[T]"""
    cost: Array
    """[T]"""
    goal: Array
    """[T + 1, 2] the goal, likewise."""
    hazards: Array
    """[hazards, 2]"""
    sizes: dict[str, float]
    """Radius of `goal` and `hazards`."""

    @property
    def goals_reached(self) -> NDArray[np.intp]:
        """Steps after which the goal was a new one."""
        return np.flatnonzero(np.any(np.diff(self.goal, axis=0) != 0, axis=1)) + 1


@torch.no_grad()
def watch(
    run: str | Path, worlds: int = 1, steps: int = 1_000, seed: int = EVALUATION_SEED
) -> list[Track]:
    """One episode of a stored run's last policy, with sampled actions, in each of some worlds.

    Args:
        run: the run's folder, of a Goal task.
        worlds: how many; two runs watched with one seed start in the same worlds.
        steps: at most a whole episode.
        seed: stock seed of the first world.
    """
    policy, normaliser, env_id = load_policy(run)
    noise = torch.Generator().manual_seed(seed)
    env: Any = make_vec_env(env_id, worlds, seed, num_threads=1)  # one with a layout to see
    with closing(env), one_torch_thread():
        obs = env.reset()
        hazards, sizes = env.layout()["objects"]["hazards"], env.layout()["sizes"]
        places, prices = [_places(env)], []
        for _ in range(min(steps, env.max_episode_steps)):
            actions = policy(torch.from_numpy(normaliser(obs))).sample(noise)
            result = env.step(actions.double().numpy())
            obs = result.obs
            places.append(_places(env))
            prices.append(np.stack([result.reward, result.cost]))
    path = np.array(places)
    if len(prices) == env.max_episode_steps:
        path[-1] = path[-2]  # the worlds have begun anew
    reward, cost = np.array(prices).transpose(1, 0, 2)
    return [
        Track(path[:, 0, i], reward[:, i], cost[:, i], path[:, 1, i], hazards[i], sizes)
        for i in range(worlds)
    ]


def _places(env: Any) -> Array:
    """[2, num_envs, 2] the agents and their goals."""
    layout = env.layout()
    return np.stack([layout["agent"], layout["objects"]["goal"][:, 0]])
