"""TRPO-Lag: TRPO on the Lagrangian advantage, its multiplier by dual ascent (Ray et al. 2019).

lambda <- clip(Adam step on -lambda (J_C - C), 0)
TRPO on A = (A_r - lambda A_c) / (1 + lambda):   alpha = sqrt(2 delta / (q - 2 lambda r +
lambda^2 s)),  beta = lambda alpha
"""

import math
from dataclasses import dataclass
from typing import Any

from kfcpo_lib.algorithms.multipliers import Multiplier
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
    """TRPO-Lag's own settings."""

    damping: float = 0.1
    natural_gradient: str = "cg"
    """`cg` or `kfac`."""
    line_search_trials: int = 15
    multiplier_start: float = 0.001
    multiplier_learning_rate: float = 0.035


@dataclass
class State(SecondOrderState):
    """The Fisher metric and the multiplier."""

    multiplier: Multiplier

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        fisher = make_fisher(policy, settings.natural_gradient, settings.damping)
        multiplier = Multiplier(settings.multiplier_start, settings.multiplier_learning_rate)
        return cls(fisher, settings.line_search_trials, multiplier)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return super().state_dict() | {"multiplier": self.multiplier.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        super().load_state_dict(state)
        self.multiplier.load_state_dict(state["multiplier"])


def coefficients(scalars: Scalars, multiplier: float) -> Step:
    """TRPO's step on the gradient g - lambda b."""
    squared = scalars.q - 2 * multiplier * scalars.r + multiplier**2 * scalars.s
    alpha = math.sqrt(2 * scalars.delta / squared) if squared > 0 else 0.0
    return Step(alpha, multiplier * alpha)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update: the multiplier first, then the policy."""
    multiplier = state.multiplier.update(episodic_cost, knobs.cost_limit)

    def acceptable(scalars: Scalars, change: Surrogates) -> bool:
        """The Lagrangian must not fall."""
        return bool(change.reward - multiplier * change.cost >= 0)

    report, _, _ = propose_and_search(
        policy, batch, state.fisher, 0.0, knobs.kl_limit,
        lambda scalars: coefficients(scalars, multiplier), acceptable, state.line_search_trials,
    )  # fmt: skip
    cost_weight = multiplier / (1 + multiplier)
    return UpdateReport(
        report.minibatches, cost_weight, report.kl, report.nonfinite,
        {**report.extra, "multiplier": multiplier},
    )  # fmt: skip
