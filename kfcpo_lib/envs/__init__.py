"""Worlds: the vectorised Safety Gymnasium, stock environments, and the course's toy worlds."""

import warnings

from kfcpo_lib.envs.interface import StepResult, VecEnv
from kfcpo_lib.envs.locomotion import LOCOMOTION, Locomotion
from kfcpo_lib.envs.safety_gym import check_safety_env_id
from kfcpo_lib.envs.stock import StockVecEnv
from kfcpo_lib.envs.toy_senses import (
    FlickerPointMassVecEnv,
    FlickerWindowPointMassVecEnv,
    PixelPointMassVecEnv,
)
from kfcpo_lib.envs.toys import PointMassVecEnv
from kfcpo_lib.envs.vector import SafetyVecEnv, UnsupportedTaskError

__all__ = ["StepResult", "VecEnv", "check_env_id", "make_vec_env"]

TOYS: dict[str, type[PointMassVecEnv]] = {
    kind.env_id: kind
    for kind in (
        PointMassVecEnv,
        PixelPointMassVecEnv,
        FlickerPointMassVecEnv,
        FlickerWindowPointMassVecEnv,
    )
}


def make_vec_env(
    env_id: str, num_envs: int, seed: int, *, num_threads: int | None = None
) -> VecEnv:
    """`num_envs` environments stepped side by side, with automatic reset.

    Environment i behaves as the stock environment reset with the seed `seed + i` does.

    Args:
        env_id: a Safety Gymnasium task such as `SafetyPointGoal1-v0`, a toy such as
            `PointMass-v0`, or a running robot such as `ControlCostHalfCheetah-v4`.
        num_envs: how many environments.
        seed: seed of environment 0; environment i has `seed + i`.
        num_threads: threads of the simulator; None: one per processor. Changes no number.

    Raises:
        ValueError: if the id is unknown; the message names close ones.
    """
    check_env_id(env_id)
    if env_id in TOYS:
        return TOYS[env_id](num_envs, seed)
    if env_id in LOCOMOTION:
        return StockVecEnv(env_id, num_envs, seed, Locomotion)
    try:
        return SafetyVecEnv(env_id, num_envs, seed, num_threads)
    except UnsupportedTaskError as reason:
        warnings.warn(f"{reason}: using stock environments, many times slower", stacklevel=2)
        return StockVecEnv(env_id, num_envs, seed)


def check_env_id(env_id: str) -> None:
    """Raise a ValueError that names close matches if there is no such environment."""
    if env_id not in TOYS and env_id not in LOCOMOTION:
        check_safety_env_id(env_id)
