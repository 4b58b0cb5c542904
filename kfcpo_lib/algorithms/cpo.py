"""CPO: constrained policy optimisation (Achiam et al. 2017).

    maximise g'v   subject to   c + b'v <= 0   and   v'Fv / 2 <= delta

    alpha = sqrt(2 delta / q)
    FREE      alpha r + c <= 0:      v = alpha x              TRPO's step is safe already
    BOUNDARY  c^2 < 2 delta s:       v = alpha x - beta p     both constraints hold with equality:
                                     alpha = sqrt((2 delta - c^2/s) / (q - r^2/s))
                                     beta  = (alpha r + c) / s
    RECOVERY  otherwise:             v = -sqrt(2 delta / s) p the safe half-space is out of reach

In the dual's terms alpha = 1/lambda and beta = nu/lambda. |c|/sqrt(s) is the distance of the
boundary plane in the Fisher norm, sqrt(2 delta) the radius of the trust region.
The longest of 0.8^j v with KL <= delta, cost surrogate not higher than the room left, max(-c, 0),
and, while safe, reward surrogate not lower.
"""

import math
from dataclasses import dataclass, replace

from kfcpo_lib.algorithms.multipliers import Margin
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
from kfcpo_lib.streams import Streams

RECOVERY, BOUNDARY, FREE = 0, 1, 2
"""The three cases, as they stand in the column `case`."""
PARALLEL = 1e-6
"""Squared sine below which x and p count as parallel: what is left of x is rounding."""


@dataclass(frozen=True)
class Settings(SecondOrderSettings):
    """CPO's own settings. Raises ValueError on a value that is not allowed."""

    margin_rate: float = 0.0
    """How fast the limit is tightened while the cost is above it, per epoch; see `Margin`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("margin_rate", self.margin_rate, NOT_NEGATIVE)


@dataclass
class State(SecondOrderState):
    """The Fisher metric and the margin."""

    margin: Margin

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        base = SecondOrderState.start(policy, settings, streams)
        return cls(settings, base.fisher, base.generator, Margin(settings.margin_rate))


def case(scalars: Scalars) -> int:
    """Which of the three cases holds; needs no division by s, which may be zero."""
    _, r, s, c, delta = scalars
    if to_boundary(scalars, 1.0, 0.0).alpha * r + c <= 0:
        return FREE
    return BOUNDARY if c * c < 2 * delta * s else RECOVERY


def coefficients(scalars: Scalars) -> Step:
    """The exact solution of the problem above; in RECOVERY the fastest way down in cost."""
    q, r, s, c, delta = scalars
    found = case(scalars)
    if found == FREE:
        return to_boundary(scalars, 1.0, 0.0)
    if found == RECOVERY:
        return to_boundary(scalars, 0.0, 1.0)
    across = q - r * r / s  # squared length of the part of x that leaves the cost alone
    room = 2 * delta - c * c / s  # what the way to the boundary plane leaves for it
    alpha = math.sqrt(room / across) if across > PARALLEL * q else 0.0
    return Step(alpha, (alpha * r + c) / s)


def acceptable(scalars: Scalars, change: Surrogates) -> bool:
    """The cost may use the room below the limit; a safe policy must not lose reward."""
    affordable = bool(change.cost <= max(-scalars.c, 0.0))
    return affordable and (scalars.c >= 0 or bool(change.reward >= 0))


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update."""
    c = violation(episodic_cost, state.margin.update(episodic_cost, knobs.cost_limit), batch)
    report = propose_and_search(policy, batch, c, knobs.kl_limit, state, coefficients, acceptable)
    q, r, s = (report.extra[name] for name in "qrs")
    scalars = Scalars(q, r, s, c, knobs.kl_limit)
    return replace(
        report, extra={**report.extra, "case": case(scalars), "margin": state.margin.value}
    )
