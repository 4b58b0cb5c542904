"""CRPO: constraint-rectified policy optimisation (Xu, Liang & Lan 2021), a hard switch.

    J_C <= C + tolerance:   TRPO's step on the reward,   v =  sqrt(2 delta / q) x
    otherwise:              TRPO's step on the cost,     v = -sqrt(2 delta / s) p
    the longest of 0.8^j v with KL <= delta and that surrogate not worse

No multiplier. Near the limit it undoes in one epoch what it did in another; PCRPO softens that.
"""

from dataclasses import dataclass

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
from kfcpo_lib.records import NOT_NEGATIVE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch


@dataclass(frozen=True)
class Settings(SecondOrderSettings):
    """CRPO's own settings. Raises ValueError on a value that is not allowed."""

    tolerance: float = 0.0
    """Cost per episode above the limit that still counts as safe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("tolerance", self.tolerance, NOT_NEGATIVE)


State = SecondOrderState


def coefficients(scalars: Scalars, tolerance: float) -> Step:
    """The whole trust region for the reward, or for the cost; tolerance in cost per step."""
    unsafe = scalars.c > tolerance
    return to_boundary(scalars, 0.0, 1.0) if unsafe else to_boundary(scalars, 1.0, 0.0)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update."""
    tolerance = state.settings.tolerance / batch.episode_length

    def rule(scalars: Scalars) -> Step:
        return coefficients(scalars, tolerance)

    def acceptable(scalars: Scalars, change: Surrogates) -> bool:
        """What this epoch is for must not get worse."""
        return bool(change.cost <= 0 if scalars.c > tolerance else change.reward >= 0)

    c = violation(episodic_cost, knobs.cost_limit, batch)
    return propose_and_search(policy, batch, c, knobs.kl_limit, state, rule, acceptable)
