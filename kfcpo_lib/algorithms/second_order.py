"""The frame that every second-order rule shares: two natural gradients, one step, a line search.

With g uphill in reward, b uphill in cost, x = F^-1 g and p = F^-1 b, each rule proposes the step
alpha x - beta p, and chooses alpha and beta from five scalars:

    q = g'x,  r = g'p,  s = b'p,   c = (J_C - C) / T,   delta

c is the violation per step (T: mean episode length), the unit of the cost surrogate; a step v
changes the episodic cost by about T b'v. The quadratic model of a step: KL = (alpha^2 q -
2 alpha beta r + beta^2 s) / 2, reward gain alpha q - beta r, cost change alpha r - beta s.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kfcpo_lib.algorithms.surrogates import Surrogates, surrogate_gradients, surrogates
from kfcpo_lib.fisher import ConjugateGradientFisher, FisherMetric
from kfcpo_lib.gaussians import mean_kl
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Minibatch, UpdateReport
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.trust_region import trial_step

BACKTRACK = 0.8
"""Each trial of the line search is this much shorter than the one before."""


class Scalars(NamedTuple):
    """What a second-order rule decides by."""

    q: float
    """g'F^-1 g: squared length of the reward gradient."""
    r: float
    """g'F^-1 b: positive where reward and cost rise together (a conflict)."""
    s: float
    """b'F^-1 b: squared length of the cost gradient."""
    c: float
    """Violation per step, (J_C - C) / T: positive where unsafe."""
    delta: float
    """Trust-region size, nats."""


class Step(NamedTuple):
    """alpha x - beta p."""

    alpha: float
    beta: float


@dataclass
class SecondOrderState:
    """The Fisher metric, K-FAC's or conjugate gradient's, and a rule's own numbers."""

    fisher: FisherMetric
    line_search_trials: int

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"fisher": self.fisher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.fisher.load_state_dict(state["fisher"])


def make_fisher(policy: GaussianPolicy, natural_gradient: str, damping: float) -> FisherMetric:
    """`cg`: 15 iterations of conjugate gradient; `kfac`: Kronecker factors.

    Raises:
        ValueError: on another name.
    """
    if natural_gradient == "cg":
        return ConjugateGradientFisher(policy, damping)
    if natural_gradient == "kfac":
        return KFAC(policy, damping, decay=0.0)
    raise ValueError(f"natural_gradient must be cg or kfac, got {natural_gradient!r}")


def violation(episodic_cost: float, cost_limit: float, batch: Batch) -> float:
    """c, the violation in the unit of the cost surrogate: cost per step."""
    return (episodic_cost - cost_limit) / batch.episode_length


def propose_and_search(
    policy: GaussianPolicy,
    batch: Batch,
    fisher: FisherMetric,
    c: float,
    delta: float,
    rule: Callable[[Scalars], Step],
    acceptable: Callable[[Scalars, Surrogates], bool],
    trials: int = 15,
) -> tuple[UpdateReport, Scalars, Step]:
    """One update: the rule's step, shortened until it is acceptable and its KL is within delta.

    Args:
        policy: changed in place; unchanged if no trial is accepted.
        batch: the whole epoch's data.
        fisher: metric; sees the batch's states first.
        c: violation per step.
        delta: trust-region size, nats.
        rule: scalars -> (alpha, beta).
        acceptable: scalars and changes of both surrogates (per step) -> may the trial be kept?
        trials: length of the line search; trial j takes the step times 0.8^j.
    """
    fisher.update_factors(batch.obs)
    gradients = surrogate_gradients(policy, batch)
    x, p = fisher.precondition(gradients.reward), fisher.precondition(gradients.cost)
    q, r, s = (float(product) for product in (
        gradients.reward @ x, gradients.reward @ p, gradients.cost @ p
    ))  # fmt: skip
    scalars = Scalars(q, r, s, c, delta)
    if not all(math.isfinite(number) for number in scalars):
        refused = Minibatch(kl=math.nan, committed=False, delta=delta, cosine=math.nan)
        return UpdateReport([refused], math.nan, 0.0, nonfinite=1), scalars, Step(0.0, 0.0)
    step = rule(scalars)
    direction = step.alpha * x - step.beta * p
    attempts = line_search(
        policy, batch, direction, lambda change: acceptable(scalars, change), delta, trials
    )
    cosine = -r / math.sqrt(q * s) if q > 0 and s > 0 else math.nan
    details = [Minibatch(kl, committed, delta, cosine) for kl, committed in attempts]
    kl = attempts[-1][0] if attempts[-1][1] else 0.0
    nonfinite = sum(not math.isfinite(m.kl) for m in details)
    extra = scalars._asdict() | step._asdict()
    extra.pop("delta")
    return UpdateReport(details, math.nan, kl, nonfinite, extra), scalars, step


def line_search(
    policy: GaussianPolicy,
    batch: Batch,
    direction: Tensor,
    acceptable: Callable[[Surrogates], bool],
    delta: float,
    trials: int,
) -> list[tuple[float, bool]]:
    """Try 0.8^j times the direction [P], j = 0, 1, ...; (KL, kept?) of each trial made.

    A trial is kept if its surrogate changes are acceptable and its KL from the collecting policy
    is within delta. Numbers that are not finite are never kept.
    """
    with torch.no_grad():
        old = policy(batch.obs).detach()
        before = surrogates(policy, batch)
    attempts: list[tuple[float, bool]] = []

    @torch.no_grad()
    def accept() -> bool:
        kl = float(mean_kl(old, policy(batch.obs)))
        now = surrogates(policy, batch)
        change = Surrogates(now.reward - before.reward, now.cost - before.cost)
        kept = kl <= delta and acceptable(change)
        attempts.append((kl, kept))
        return kept

    for j in range(trials):
        if trial_step(list(policy.parameters()), BACKTRACK**j * direction, accept):
            break
    return attempts
