"""MuJoCo locomotion with a cost: the idea of Safety-MuJoCo (Gu et al. 2024, arXiv:2405.01677).

Gymnasium's robots earn their speed, in metres per second at each step. What that takes becomes a
cost of its own instead of a penalty inside the reward: the control energy, or the health. Ids are
the cost before the robot:

    ControlCostHalfCheetah-v4   cost: mean squared action, in [0, 1] per step; no penalty for it
    HealthCostWalker2d-v4       cost: 1 per step in an unhealthy posture; falling ends no episode

The scaling is ours: an episode of 1,000 steps at full force, or fallen all the time, costs 1,000.
"""

from typing import Any

import numpy as np

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.safety_gym import gymnasium

CONTROL_COST = {
    f"ControlCost{robot}-v4": f"{robot}-v4"
    for robot in ("HalfCheetah", "Swimmer", "Hopper", "Walker2d", "Ant")
}
HEALTH_COST = {f"HealthCost{robot}-v4": f"{robot}-v4" for robot in ("Hopper", "Walker2d", "Ant")}
LOCOMOTION = CONTROL_COST | HEALTH_COST
"""Our id -> Gymnasium's."""


class Locomotion(gymnasium.Wrapper):  # type: ignore[type-arg]
    """One robot; `step` returns a cost after the reward, as Safety Gymnasium's environments do."""

    def __init__(self, env_id: str) -> None:
        self.counts_health = env_id in HEALTH_COST
        changes: dict[str, Any] = {"ctrl_cost_weight": 0.0}
        if self.counts_health:
            changes = {"terminate_when_unhealthy": False, "healthy_reward": 0.0}
        super().__init__(gymnasium.make(LOCOMOTION[env_id], **changes))

    def step(self, action: Array) -> Any:
        """Observation, reward, cost, terminated, truncated, info; the action is clipped."""
        limit = self.action_space.high  # type: ignore[attr-defined]
        clipped = np.clip(action, -limit, limit)
        obs, reward, *ends = super().step(clipped)
        cost = float(np.mean((clipped / limit) ** 2))
        if self.counts_health:
            cost = float(not self.unwrapped.is_healthy)  # type: ignore[attr-defined]
        return obs, reward, cost, *ends
