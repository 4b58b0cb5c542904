"""TRPO: trust-region policy optimisation without constraint (Schulman et al. 2015).

    v = sqrt(2 delta / q) x,   x = F^-1 g,  q = g'x
    the longest of 0.8^j v with reward surrogate not lower and KL <= delta

The "no safety" reference line.
"""

import math
from dataclasses import dataclass

from kfcpo_lib.algorithms.second_order import (
    Scalars,
    SecondOrderState,
    Step,
    make_fisher,
    propose_and_search,
)
from kfcpo_lib.algorithms.surrogates import Surrogates
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, UpdateReport
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams


@dataclass(frozen=True)
class Settings:
    """TRPO's own settings."""

    damping: float = 0.1
    natural_gradient: str = "cg"
    """`cg` or `kfac`."""
    line_search_trials: int = 15


@dataclass
class State(SecondOrderState):
    """The Fisher metric."""

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        fisher = make_fisher(policy, settings.natural_gradient, settings.damping)
        return cls(fisher, settings.line_search_trials)


def coefficients(scalars: Scalars) -> Step:
    """The longest step along x inside the trust region."""
    return Step(math.sqrt(2 * scalars.delta / scalars.q) if scalars.q > 0 else 0.0, 0.0)


def acceptable(scalars: Scalars, change: Surrogates) -> bool:
    """The reward surrogate must not fall."""
    return bool(change.reward >= 0)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update; the cost is not looked at."""
    report, _, _ = propose_and_search(
        policy, batch, state.fisher, 0.0, knobs.kl_limit,
        coefficients, acceptable, state.line_search_trials,
    )  # fmt: skip
    return report
