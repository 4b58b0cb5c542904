"""TRPO: trust-region policy optimisation without constraint (Schulman et al. 2015).

    v = sqrt(2 delta / q) x,   x = F^-1 g,  q = g'x
    the longest of 0.8^j v with reward surrogate not lower and KL <= delta

The "no safety" reference line.
"""

from kfcpo_lib.algorithms.second_order import (
    Scalars,
    SecondOrderSettings,
    SecondOrderState,
    Step,
    propose_and_search,
    to_boundary,
    violation,
)
from kfcpo_lib.algorithms.surrogates import Surrogates
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, UpdateReport
from kfcpo_lib.rollouts import Batch

Settings = SecondOrderSettings
State = SecondOrderState


def coefficients(scalars: Scalars) -> Step:
    """The longest step along x inside the trust region."""
    return to_boundary(scalars, 1.0, 0.0)


def acceptable(scalars: Scalars, change: Surrogates) -> bool:
    """The reward surrogate must not fall."""
    return bool(change.reward >= 0)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update; the cost is only reported."""
    c = violation(episodic_cost, knobs.cost_limit, batch)
    return propose_and_search(policy, batch, c, knobs.kl_limit, state, coefficients, acceptable)
