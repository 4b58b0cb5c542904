"""TRPO-Lag: TRPO on the Lagrangian, its multiplier by dual ascent (Ray et al. 2019).

    lambda <- clip(Adam step on -lambda (J_C - C), 0)
    TRPO on g - lambda b:   alpha = sqrt(2 delta / (q - 2 lambda r + lambda^2 s)),
                            beta = lambda alpha

Dividing the Lagrangian by 1 + lambda, as PPO-Lag must, would change nothing: a trust-region step
does not depend on the size of its gradient.
"""

from dataclasses import dataclass, replace

from kfcpo_lib.algorithms.multipliers import Multiplier
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
from kfcpo_lib.records import NOT_NEGATIVE, POSITIVE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams


@dataclass(frozen=True)
class Settings(SecondOrderSettings):
    """TRPO-Lag's own settings. Raises ValueError on a value that is not allowed."""

    multiplier_start: float = 0.001
    multiplier_learning_rate: float = 0.035

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("multiplier_start", self.multiplier_start, NOT_NEGATIVE)
        check_number("multiplier_learning_rate", self.multiplier_learning_rate, POSITIVE)


@dataclass
class State(SecondOrderState):
    """The Fisher metric and the multiplier."""

    multiplier: Multiplier

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        base = SecondOrderState.start(policy, settings, streams)
        multiplier = Multiplier(settings.multiplier_start, settings.multiplier_learning_rate)
        return cls(settings, base.fisher, base.generator, multiplier)


def coefficients(scalars: Scalars, multiplier: float) -> Step:
    """TRPO's step on the gradient g - multiplier * b."""
    return to_boundary(scalars, 1.0, multiplier)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update: the multiplier first, then the policy."""
    multiplier = state.multiplier.update(episodic_cost, knobs.cost_limit)

    def rule(scalars: Scalars) -> Step:
        return coefficients(scalars, multiplier)

    def acceptable(_: Scalars, change: Surrogates) -> bool:
        """The Lagrangian must not fall."""
        return bool(change.reward - multiplier * change.cost >= 0)

    c = violation(episodic_cost, knobs.cost_limit, batch)
    report = propose_and_search(policy, batch, c, knobs.kl_limit, state, rule, acceptable)
    return replace(report, extra={**report.extra, "multiplier": multiplier})
