"""How much reward, how much safety: margin weights, conflict projection, blend.

Directions are flat vectors [P] of ascent: `reward_direction` raises the return,
`cost_direction` lowers the cost. Sources: Lim & Yoo 2025 (KFCPO), Gu et al. 2024 (PCRPO).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Inner = Callable[[Tensor, Tensor], Tensor]

CONFLICT_MODES = ("project_cost", "project_reward", "project_minor", "project_both", "none")
"""Which direction gives way when the two disagree (see `resolve_conflict`)."""


def margin_weights(
    episodic_cost: float, cost_limit: float, margin_lambda: float, steepness_k: float
) -> tuple[float, float]:
    """Weights (w_r, w_c) of the two directions: w_c = sigmoid(k (c_ep - lambda C)), w_r = 1 - w_c.

    Args:
        episodic_cost: c_ep, mean cost per episode.
        cost_limit: C > 0, per episode.
        margin_lambda: lambda in (0, 1]; both weights are 1/2 where c_ep = lambda * C.
        steepness_k: k > 0, per unit of episodic cost.

    >>> margin_weights(episodic_cost=20.0, cost_limit=25.0, margin_lambda=0.8, steepness_k=0.3)
    (0.5, 0.5)
    """
    for name, value, valid, allowed in (
        ("episodic_cost", episodic_cost, True, "finite"),
        ("cost_limit", cost_limit, cost_limit > 0, "positive and finite"),
        ("margin_lambda", margin_lambda, 0 < margin_lambda <= 1, "in (0, 1]"),
        ("steepness_k", steepness_k, steepness_k > 0, "positive and finite"),
    ):
        if not (math.isfinite(value) and valid):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
    excess = steepness_k * (episodic_cost - margin_lambda * cost_limit)
    return _sigmoid(-excess), _sigmoid(excess)


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) for any x: exp is only taken of what is not positive."""
    decay = math.exp(-abs(x))
    return (1.0 if x >= 0 else decay) / (1.0 + decay)


def cosine(u: Tensor, v: Tensor, inner: Inner = torch.dot) -> float:
    """Cosine of the angle between two directions in a metric; NaN if one of them is zero."""
    squares = max(float(inner(u, u)), 0.0), max(float(inner(v, v)), 0.0)
    lengths = math.sqrt(squares[0]) * math.sqrt(squares[1])
    return float(inner(u, v)) / lengths if lengths > 0 else math.nan


def remove_component(direction: Tensor, obstacle: Tensor, inner: Inner = torch.dot) -> Tensor:
    """The part of `direction` that is orthogonal to `obstacle`: <result, obstacle> = 0."""
    return direction - (inner(direction, obstacle) / inner(obstacle, obstacle)) * obstacle


def resolve_conflict(
    reward_direction: Tensor,
    cost_direction: Tensor,
    cost_weight: float,
    conflict: str = "project_cost",
    inner: Inner = torch.dot,
) -> tuple[Tensor, Tensor]:
    """Both directions, changed only if they disagree, <reward, cost> < 0.

    Modes: `project_cost` takes the component against the reward out of the cost direction (the
    KFCPO paper's), `project_reward` the other way round, `project_minor` out of the one with the
    smaller weight, `project_both` out of both (PCRPO's), `none` leaves them.
    After a projecting mode their inner product is >= 0 up to rounding.
    """
    if conflict not in CONFLICT_MODES:
        raise ValueError(f"conflict must be one of {', '.join(CONFLICT_MODES)}, got {conflict!r}")
    if conflict == "none" or not inner(reward_direction, cost_direction) < 0:
        return reward_direction, cost_direction
    if conflict == "project_minor":
        conflict = "project_cost" if cost_weight <= 0.5 else "project_reward"
    reward, cost = reward_direction, cost_direction
    if conflict in ("project_reward", "project_both"):
        reward = remove_component(reward_direction, cost_direction, inner)
    if conflict in ("project_cost", "project_both"):
        cost = remove_component(cost_direction, reward_direction, inner)
    return reward, cost


def blend(
    reward_direction: Tensor,
    cost_direction: Tensor,
    cost_weight: float,
    conflict: str = "project_cost",
    inner: Inner = torch.dot,
) -> Tensor:
    """[P] w_r * reward + w_c * cost, after the conflict between them has been resolved.

    Args:
        reward_direction: [P] ascent direction of the return.
        cost_direction: [P] descent direction of the cost.
        cost_weight: w_c in [0, 1]; w_r = 1 - w_c.
        conflict: one of `CONFLICT_MODES`.
        inner: the metric's inner product; only in the Fisher metric does "no conflict" mean that,
            to first order, following one direction does not harm the other.
    """
    if not 0.0 <= cost_weight <= 1.0:
        raise ValueError(f"cost_weight must be in [0, 1], got {cost_weight!r}")
    reward, cost = resolve_conflict(reward_direction, cost_direction, cost_weight, conflict, inner)
    return (1.0 - cost_weight) * reward + cost_weight * cost
