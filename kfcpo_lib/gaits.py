"""Watching one of MuJoCo's robots from the side: where its limbs are, and what each step costs."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.evaluation import EVALUATION_SEED, load_policy, make_actor
from kfcpo_lib.training import one_torch_thread


@dataclass(frozen=True)
class Gait:
    """The beginning of one episode."""

    limbs: Array
    """[T + 1, limbs, 2, 2] both ends of each limb, forward and up, metres."""
    cost: Array
    """[T] of each step."""


@torch.no_grad()
def watch_gait(run: str | Path, steps: int, actions: str = "mean") -> Gait:
    """A robot's first steps with a stored policy; the same each time.

    Args:
        run: folder of a training in one of the worlds of `envs.locomotion`.
        steps: how many, at most an episode's.
        actions: `sampled` or `mean`.

    Raises:
        ValueError: if the folder holds no readable policy.
    """
    act = make_actor(run, "policy.pt", actions, EVALUATION_SEED)
    env: Any = make_vec_env(load_policy(run)[2], 1, EVALUATION_SEED)
    with closing(env), one_torch_thread():
        obs, costs = env.reset(), []
        limbs = [_limbs_of(env.envs[0].unwrapped)]
        for _ in range(min(steps, env.max_episode_steps)):
            result = env.step(act(obs))
            obs = result.obs
            limbs.append(_limbs_of(env.envs[0].unwrapped))
            costs.append(result.cost[0])
    return Gait(np.array(limbs), np.array(costs))


def _limbs_of(robot: Any) -> Array:
    """[limbs, 2, 2] the axis of each capsule that the robot is made of."""
    model, data = robot.model, robot.data
    capsules = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    along = data.geom_xmat.reshape(-1, 3, 3)[capsules, :, 2] * model.geom_size[capsules, 1:2]
    middle = data.geom_xpos[capsules]
    ends: Array = np.stack([middle - along, middle + along], axis=1)[..., [0, 2]]
    return ends
