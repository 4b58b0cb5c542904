"""PCRPO: soft switching by gradient manipulation (Gu et al. 2024, arXiv:2405.01677).

    J_C <= C + slack_low:    the reward alone, d = x
    J_C >  C + slack_high:   the cost alone,   d = -p
    between, with n_r = x and n_c = -p:
        conflict, r > 0:     n_r <- n_r - <n_r, n_c> / <n_c, n_c> n_c,  and n_c likewise,
                             each on the other's normal plane: harmless to it, to first order
        d = w_r n_r + w_c n_c,   w_r + w_c = 1
    v = d at the length sqrt(2 delta);  the longest of 0.8^j v with KL <= delta and
    no surrogate worse that the zone is for

Zones, projections and weights agree with how its first author restates the method (Gu et al. 2024,
arXiv:2405.20860, section 4.1); the step's length and its search are ours. Ours too: the inner
product is the Fisher metric's, <n_r, n_c> = -r, so that conflict means conflict of the steps; both
directions have length 1 before they are weighed, since A_r is standardised and A_c is not. With
equal slacks it is CRPO.
"""

import math
from dataclasses import dataclass, replace

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
from kfcpo_lib.records import FINITE, SHARE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch

REWARD, MIXED, COST = 0, 1, 2
"""The three zones, as they stand in the column `zone`."""


@dataclass(frozen=True)
class Settings(SecondOrderSettings):
    """PCRPO's own settings. Raises ValueError on a value that is not allowed."""

    slack_low: float = -5.0
    """h-, cost per episode: below limit + h- the reward alone counts."""
    slack_high: float = 0.0
    """h+, cost per episode: above limit + h+ the cost alone counts."""
    cost_weight: float = 0.5
    """w_c in the mixed zone."""
    unit_directions: bool = True
    """Scale both natural gradients to length 1 before they are weighed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("slack_low", self.slack_low, FINITE)
        check_number("slack_high", self.slack_high, FINITE)
        check_number("cost_weight", self.cost_weight, SHARE)
        if self.slack_low > self.slack_high:
            raise ValueError(
                "slack_low must not be above slack_high, "
                f"got {self.slack_low!r} and {self.slack_high!r}"
            )


State = SecondOrderState


def find_zone(c: float, low: float, high: float) -> int:
    """The zone of a violation c; all in cost per step."""
    if c <= low:
        return REWARD
    return COST if c > high else MIXED


def coefficients(scalars: Scalars, zone: int, cost_weight: float, unit_directions: bool) -> Step:
    """One of the two directions, or their blend after both projections, at full length.

    Where the blend lacks one of them, the other stands alone.
    """
    q, r, s, _, _ = scalars
    if zone != MIXED or q <= 0 or s <= 0:
        cost_alone = zone == COST or (zone == MIXED and q <= 0)
        return to_boundary(scalars, float(not cost_alone), float(cost_alone))
    reward, cost = 1.0 - cost_weight, cost_weight
    if unit_directions:
        reward, cost = reward / math.sqrt(q), cost / math.sqrt(s)
    conflict = max(r, 0.0)
    return to_boundary(scalars, reward + cost * conflict / q, cost + reward * conflict / s)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update."""
    settings, length = state.settings, batch.episode_length
    c = violation(episodic_cost, knobs.cost_limit, batch)
    zone = find_zone(c, settings.slack_low / length, settings.slack_high / length)

    def rule(scalars: Scalars) -> Step:
        return coefficients(scalars, zone, settings.cost_weight, settings.unit_directions)

    def acceptable(_: Scalars, change: Surrogates) -> bool:
        """Neither the reward nor the cost gets worse, where the zone cares for it."""
        return bool((zone == COST or change.reward >= 0) and (zone == REWARD or change.cost <= 0))

    report = propose_and_search(policy, batch, c, knobs.kl_limit, state, rule, acceptable)
    return replace(report, extra={**report.extra, "zone": zone})
