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
from kfcpo_lib.records import NOT_NEGATIVE, Minibatch, UpdateReport, check_integer, check_number
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams
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
    """Violation per step, (J_C - C) / T: positive where unsafe; -inf while it is unknown."""
    delta: float
    """Trust-region size, nats."""


class Step(NamedTuple):
    """alpha x - beta p."""

    alpha: float
    beta: float


Rule = Callable[[Scalars], Step]
Acceptable = Callable[[Scalars, Surrogates], bool]
"""Scalars and the changes of both surrogates (per step) -> may the trial be kept?"""


def squared_length(scalars: Scalars, step: Step) -> float:
    """v'Fv of the step v = alpha x - beta p: twice its KL in the quadratic model."""
    (alpha, beta), (q, r, s, _, _) = step, scalars
    return alpha**2 * q - 2 * alpha * beta * r + beta**2 * s


def to_boundary(scalars: Scalars, alpha: float, beta: float) -> Step:
    """The step of this direction whose KL is delta; no step if it has no length."""
    squared = squared_length(scalars, Step(alpha, beta))
    scale = math.sqrt(2 * scalars.delta / squared) if squared > 0 else 0.0
    return Step(scale * alpha, scale * beta)


def cut_to_boundary(scalars: Scalars, step: Step) -> Step:
    """The step itself, or as much of it as the trust region holds."""
    inside = squared_length(scalars, step) <= 2 * scalars.delta
    return step if inside else to_boundary(scalars, *step)


@dataclass(frozen=True)
class SecondOrderSettings:
    """What all second-order rules can be told. Raises ValueError on what is not allowed."""

    damping: float = 0.1
    natural_gradient: str = "cg"
    """`cg`: 15 iterations of conjugate gradient; `kfac`: Kronecker factors of this epoch."""
    fisher_states: int = 2_000
    """The Fisher matrix is averaged over so many random states of the epoch, since its products
    are what an update costs (TRPO's authors take a tenth); gradients and KL see all. 0: all."""
    line_search_trials: int = 15

    def __post_init__(self) -> None:
        if self.natural_gradient not in ("cg", "kfac"):
            raise ValueError(f"natural_gradient must be cg or kfac, got {self.natural_gradient!r}")
        check_number("damping", self.damping, NOT_NEGATIVE)
        check_integer("fisher_states", self.fisher_states, 0)
        check_integer("line_search_trials", self.line_search_trials, 1)


@dataclass
class SecondOrderState:
    """The Fisher metric, and where its random states come from."""

    settings: Any
    fisher: FisherMetric
    generator: torch.Generator

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Any, streams: Streams) -> "SecondOrderState":
        """The state before the first update."""
        fisher: FisherMetric = ConjugateGradientFisher(policy, settings.damping)
        if settings.natural_gradient == "kfac":
            fisher = KFAC(policy, settings.damping, decay=0.0)
        return cls(settings, fisher, streams.fisher)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: every part that has a state; the random streams have their own."""
        parts = vars(self).items()
        return {name: part.state_dict() for name, part in parts if hasattr(part, "state_dict")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)

    def look_at(self, obs: Tensor) -> None:
        """Average the Fisher matrix over (some of) these states [B, obs_dim]."""
        wanted = self.settings.fisher_states or len(obs)
        if wanted < len(obs):
            obs = obs[torch.randperm(len(obs), generator=self.generator)[:wanted]]
        self.fisher.update_factors(obs)


def violation(episodic_cost: float | None, cost_limit: float, batch: Batch) -> float:
    """c, the violation in the unit of the cost surrogate: cost per step.

    -inf before the first episode has ended: no rule has a constraint to keep then.
    """
    if episodic_cost is None:
        return -math.inf
    return (episodic_cost - cost_limit) / batch.episode_length


def propose_and_search(
    policy: GaussianPolicy,
    batch: Batch,
    c: float,
    delta: float,
    state: SecondOrderState,
    rule: Rule,
    acceptable: Acceptable,
) -> UpdateReport:
    """One update: the rule's step, shortened until it is acceptable and its KL is within delta.

    Args:
        policy: changed in place; unchanged if no trial is accepted.
        batch: the whole epoch's data.
        c: violation per step.
        delta: trust-region size, nats.
        state: the Fisher metric.
        rule: scalars -> (alpha, beta). A step beyond the trust region is cut to its boundary.
        acceptable: asked at each trial.
    """
    state.look_at(batch.obs)
    g, b = surrogate_gradients(policy, batch)
    x, p = state.fisher.precondition(g), state.fisher.precondition(b)
    scalars = Scalars(float(g @ x), float(g @ p), float(b @ p), c, delta)
    if math.isnan(c) or not all(math.isfinite(number) for number in scalars[:3]):
        return make_report(scalars, Step(0.0, 0.0), [(math.nan, False)])
    step = cut_to_boundary(scalars, rule(scalars))
    attempts = line_search(
        policy,
        batch,
        step.alpha * x - step.beta * p,
        lambda change: acceptable(scalars, change),
        delta,
        state.settings.line_search_trials,
    )
    return make_report(scalars, step, attempts)


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
        before = surrogates(old, batch)
    attempts: list[tuple[float, bool]] = []

    @torch.no_grad()
    def accept() -> bool:
        present = policy(batch.obs)
        now = surrogates(present, batch)
        change = Surrogates(now.reward - before.reward, now.cost - before.cost)
        finite = bool(torch.isfinite(change.reward + change.cost))
        kl = float(mean_kl(old, present)) if finite else math.nan
        kept = kl <= delta and acceptable(change)
        attempts.append((kl, kept))
        return kept

    for j in range(trials):
        if trial_step(list(policy.parameters()), BACKTRACK**j * direction, accept):
            break
    return attempts


def make_report(scalars: Scalars, step: Step, attempts: list[tuple[float, bool]]) -> UpdateReport:
    """A row per trial; the scalars, alpha, beta and the fraction kept as columns of their own."""
    q, r, s, c, delta = scalars
    cosine = -r / math.sqrt(q * s) if q > 0 and s > 0 else math.nan
    rows = [Minibatch(kl, kept, delta, cosine) for kl, kept in attempts]
    kl, kept = attempts[-1]
    cost_share = max(step.beta, 0.0)
    total = step.alpha + cost_share
    fraction = BACKTRACK ** (len(attempts) - 1) if kept else 0.0
    return UpdateReport(
        rows,
        cost_weight=cost_share / total if total > 0 else math.nan,
        kl=kl if kept else 0.0,
        nonfinite=sum(not math.isfinite(kl) for kl, _ in attempts),
        extra={"q": q, "r": r, "s": s, "c": c} | step._asdict() | {"fraction": fraction},
    )
