"""PCPO: projection-based constrained policy optimisation (Yang et al. 2020), projecting in KL.

    reward step:  alpha = sqrt(2 delta / q)
    projection:   beta = max(0, (alpha r + c) / s)      onto the half-space c + b'v <= 0
    v = alpha x - beta p,  the longest of 0.8^j v with KL <= delta and
    cost surrogate not higher than max(-c, 0)

No multiplier and no cases. The projected step may leave the trust region; it is cut to the
boundary then. With b = 0 there is nothing to project on: TRPO's step.
"""

from dataclasses import replace

from kfcpo_lib.algorithms import cpo
from kfcpo_lib.algorithms.second_order import (
    Scalars,
    Step,
    propose_and_search,
    to_boundary,
    violation,
)
from kfcpo_lib.algorithms.surrogates import Surrogates
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, UpdateReport
from kfcpo_lib.rollouts import Batch

Settings = cpo.Settings
State = cpo.State
"""The same as CPO's."""


def coefficients(scalars: Scalars) -> Step:
    """TRPO's step, and how much of p brings it back to the safe side."""
    _, r, s, c, _ = scalars
    alpha = to_boundary(scalars, 1.0, 0.0).alpha
    return Step(alpha, max(0.0, (alpha * r + c) / s) if s > 0 else 0.0)


def acceptable(scalars: Scalars, change: Surrogates) -> bool:
    """The cost may use the room below the limit; the reward may fall."""
    return bool(change.cost <= max(-scalars.c, 0.0))


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update."""
    c = violation(episodic_cost, state.margin.update(episodic_cost, knobs.cost_limit), batch)
    report = propose_and_search(policy, batch, c, knobs.kl_limit, state, coefficients, acceptable)
    return replace(report, extra={**report.extra, "margin": state.margin.value})
