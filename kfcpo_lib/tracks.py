"""Watching a trained agent: where it goes, what it earns, what it pays."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.evaluation import EVALUATION_SEED, load_policy, make_actor
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
    """[T + 1, 2] the goal, likewise: in Button tasks the button that is to be pressed."""
    objects: dict[str, Array]
    """Kind -> [T + 1, count, 2], likewise; hazards, vases, buttons, gremlins, ..."""
    sizes: dict[str, float]
    """Kind -> radius, or half the side; that of `goal`, too."""
    heading: Array = field(default_factory=lambda: np.zeros(0))
    """[T + 1] radians; empty where an agent has none."""

    @property
    def hazards(self) -> Array:
        """[hazards, 2]"""
        places: Array = self.objects.get("hazards", np.zeros((1, 0, 2)))[0]
        return places

    @property
    def goals_reached(self) -> NDArray[np.intp]:
        """Steps after which the goal was a new one."""
        return np.flatnonzero(np.any(np.diff(self.goal, axis=0) != 0, axis=1)) + 1


class Stage:
    """Some worlds in which policies are watched, each in the same episodes.

    Args:
        env_id: a task of the course.
        worlds: how many.
        seed: stock seed of the first world.
    """

    def __init__(self, env_id: str, worlds: int = 1, seed: int = EVALUATION_SEED) -> None:
        self.env_id, self.seed = env_id, seed
        self.env: Any = make_vec_env(env_id, worlds, seed, num_threads=1)
        self._first_obs = self.env.reset()
        self._start = self.env.state()

    def close(self) -> None:
        """Free the simulators."""
        self.env.close()

    @torch.no_grad()
    def play(
        self,
        run: str | Path,
        name: str = "policy.pt",
        *,
        actions: str = "sampled",
        steps: int = 1_000,
    ) -> list[Track]:
        """One episode of a run's policy in each world; the same each time."""
        act = make_actor(run, name, actions, self.seed)
        env, obs, prices = self.env, self._first_obs, []
        env.set_state(self._start)
        layouts = [env.layout()]
        with one_torch_thread():
            for _ in range(min(steps, env.max_episode_steps)):
                result = env.step(act(obs))
                obs = result.obs
                layouts.append(env.layout())
                prices.append(np.stack([result.reward, result.cost]))
        if len(prices) == env.max_episode_steps:
            layouts[-1] = layouts[-2]  # the worlds have begun anew
        reward, cost = np.array(prices).transpose(1, 0, 2)
        return [_track(layouts, reward[:, i], cost[:, i], i) for i in range(env.num_envs)]


def watch(
    run: str | Path,
    worlds: int = 1,
    steps: int = 1_000,
    seed: int = EVALUATION_SEED,
    *,
    name: str = "policy.pt",
    actions: str = "sampled",
) -> list[Track]:
    """One episode of a stored policy in each of some worlds.

    Args:
        run: the run's folder.
        worlds: how many; two runs watched with one seed start in the same worlds.
        steps: at most a whole episode.
        seed: stock seed of the first world.
        name: file of the policy in the run's folder: its last one, or a snapshot.
        actions: `sampled` or `mean`.
    """
    with closing(Stage(load_policy(run, name)[2], worlds, seed)) as stage:
        return stage.play(run, name, actions=actions, steps=steps)


def middle_world(ones: Sequence[Track], others: Sequence[Track]) -> int:
    """The world in which two agents' costs differ neither much nor little: the middle of them."""
    more = [one.cost.sum() - other.cost.sum() for one, other in zip(ones, others, strict=True)]
    return int(np.argsort(more, kind="stable")[len(more) // 2])


def _track(layouts: list[dict[str, Any]], reward: Array, cost: Array, i: int) -> Track:
    """World i's episode."""
    first = layouts[0]
    objects = {
        kind: np.array([layout["objects"][kind][i] for layout in layouts])
        for kind in first["objects"]
        if kind != "goal"
    }
    goal = np.array([layout["objects"]["goal"][i, 0] for layout in layouts])
    heading = [layout["agent_heading"][i] for layout in layouts if "agent_heading" in layout]
    path = np.array([layout["agent"][i] for layout in layouts])
    return Track(path, reward, cost, goal, objects, first["sizes"], np.array(heading))
