"""KFCPO: K-FAC, margin-aware blending, KL rollback (Lim & Yoo 2025, arXiv:2511.00880).

    for each minibatch:
        update the Kronecker factors
        n_r, n_c = unit(F^-1 g_r), unit(-F^-1 g_c)      unit: length 1 in the Fisher norm
        if <n_r, n_c>_F < 0:  n_c <- n_c - <n_c, n_r>_F / <n_r, n_r>_F n_r
        n = w_r n_r + w_c n_c                           w_c = sigmoid(k (c_ep - lambda C))
        theta' = theta + sqrt(2 delta / <n, n>_F) n
        if KL(pi_k || pi_theta') > kl_limit:  undo, to the bit

Ours, since the paper does not say: unit lengths, the Fisher metric for the conflict, the KL
against the policy that collected the data, and delta that grows with commits and shrinks with
rollbacks. All but the unit lengths are settings, to be compared with their alternatives.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kfcpo_lib.algorithms.surrogates import Surrogates, surrogate_gradients
from kfcpo_lib.blending import CONFLICT_MODES, blend, cosine, margin_weights
from kfcpo_lib.fisher import ConjugateGradientFisher, FisherMetric
from kfcpo_lib.gaussians import Gaussian, mean_kl
from kfcpo_lib.kfac import KFAC, check_settings
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, Minibatch, UpdateReport
from kfcpo_lib.rollouts import Batch, minibatches
from kfcpo_lib.streams import Streams
from kfcpo_lib.trust_region import adapt_delta, flatten, restore, snapshot, trial_step


@dataclass(frozen=True)
class Settings:
    """KFCPO's own settings. Raises ValueError on a value that is not allowed."""

    minibatch_size: int = 2_000
    passes: int = 1
    """Over the epoch's minibatches; the KL limit covers all of them together."""
    delta_start: float = 2e-4
    """Trust-region size of the first steps, nats."""
    adaptive_delta: bool = True
    damping: float = 0.1
    factor_decay: float = 0.95
    factor_period: int = 1
    """T_s: minibatches between two refreshes of the factors."""
    inverse_period: int = 1
    """T_f: minibatches between two eigendecompositions."""
    sampled_fisher: bool = False
    natural_gradient: str = "kfac"
    """`kfac`, or `cg`: 15 iterations of conjugate gradient on the minibatch's exact Fisher."""
    momentum: float = 0.0
    """What is left in [0, 1) of past gradients at each minibatch; 0: the last one counts alone.
    Ours, as in ACKTR: single minibatches are mostly noise."""
    conflict: str = "project_cost"
    metric: str = "fisher"
    """Where the conflict is measured and projected: `fisher` or `euclidean`."""
    full_length: bool = True
    """Scale every blend to the whole trust region. False: nearly cancelling directions give a
    short step."""
    rollback: str = "minibatch"
    """What one KL check covers: a `minibatch`, the whole `epoch`, or `none`."""
    kl_reference: str = "collecting"
    """The policy that the KL is measured against: the `collecting` one, or the `previous`."""
    kl_direction: str = "forward"
    """`forward`: KL(reference || new); `backward`: KL(new || reference)."""

    def __post_init__(self) -> None:
        choices = {
            "conflict": CONFLICT_MODES,
            "natural_gradient": ("kfac", "cg"),
            "metric": ("fisher", "euclidean"),
            "rollback": ("minibatch", "epoch", "none"),
            "kl_reference": ("collecting", "previous"),
            "kl_direction": ("forward", "backward"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("minibatch_size", "passes"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum!r}")
        if not 0 < self.delta_start < math.inf:
            raise ValueError(f"delta_start must be positive and finite, got {self.delta_start!r}")
        check_settings(self.damping, self.factor_decay, self.factor_period, self.inverse_period)


@dataclass
class State:
    """What one update hands to the next: the Fisher metric's averages, and delta."""

    settings: Settings
    fisher: FisherMetric
    delta: float
    generator: torch.Generator
    momentum: Surrogates
    """Both gradients of past minibatches, summed up with weights that decay."""

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        fisher: FisherMetric
        if settings.natural_gradient == "cg":
            fisher = ConjugateGradientFisher(policy, settings.damping)
        else:
            fisher = KFAC(
                policy,
                settings.damping,
                settings.factor_decay,
                factor_period=settings.factor_period,
                inverse_period=settings.inverse_period,
                sampled=settings.sampled_fisher,
                generator=streams.fisher,
            )
        zero = torch.zeros_like(flatten(policy.parameters()).detach())
        momentum = Surrogates(zero, zero)
        return cls(settings, fisher, settings.delta_start, streams.minibatches, momentum)

    def accumulate(self, gradients: Surrogates) -> Surrogates:
        """Add a minibatch's gradients to the decaying past; only the directions will count."""
        pairs = zip(self.momentum, gradients, strict=True)
        self.momentum = Surrogates(*(self.settings.momentum * past + new for past, new in pairs))
        return self.momentum

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; the random streams are saved with the run."""
        momentum = list(self.momentum)
        return {"fisher": self.fisher.state_dict(), "delta": self.delta, "momentum": momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.fisher.load_state_dict(state["fisher"])
        self.delta = state["delta"]
        pairs = zip(self.momentum, state["momentum"], strict=True)
        self.momentum = Surrogates(*(stored.to(present) for present, stored in pairs))


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch: a trial step per minibatch, each kept or undone by its KL.

    Args:
        policy: changed in place.
        batch: the epoch's data, collected by this policy.
        episodic_cost: c_ep; None while no episode has ended: both weights are 1/2 then.
        knobs: lambda, k, the KL limit and the cost limit of this epoch.
        state: carried from epoch to epoch, changed in place.
    """
    settings = state.settings
    cost_weight = 0.5
    if episodic_cost is not None:
        _, cost_weight = margin_weights(
            episodic_cost, knobs.cost_limit, knobs.margin_lambda, knobs.steepness_k
        )
    collecting = policy(batch.obs).detach()
    before = snapshot(policy.parameters())
    trials = []
    order = state.generator
    for index in minibatches(len(batch), settings.minibatch_size, order, settings.passes):
        reference = collecting.rows(index)
        trials.append(trial(policy, batch.rows(index), reference, cost_weight, knobs, state))

    if settings.rollback == "epoch":
        drift = kl_to(policy, batch.obs, collecting, settings.kl_direction)
        committed = bool(drift <= knobs.kl_limit)
        if not committed:
            restore(policy.parameters(), before)
            trials = [replace(t, committed=False) for t in trials]
        state.delta = next_delta(state, committed, knobs)
    kl = float(kl_to(policy, batch.obs, collecting, "forward"))
    nonfinite = sum(not math.isfinite(t.kl) for t in trials)
    return UpdateReport(trials, cost_weight, kl, nonfinite)


def trial(
    policy: GaussianPolicy,
    minibatch: Batch,
    collecting: Gaussian,
    cost_weight: float,
    knobs: Knobs,
    state: State,
) -> Minibatch:
    """One minibatch: natural directions, blend, step, KL check, commit or rollback."""
    settings, fisher, delta = state.settings, state.fisher, state.delta
    refused = Minibatch(kl=math.nan, committed=False, delta=delta, cosine=math.nan)
    gradients = surrogate_gradients(policy, minibatch)
    if not torch.isfinite(torch.cat(gradients)).all():
        return refused
    gradients = state.accumulate(gradients)

    fisher.update_factors(minibatch.obs)
    reward_direction = unit(fisher.precondition(gradients.reward), fisher)
    cost_direction = unit(fisher.precondition(-gradients.cost), fisher)
    inner = fisher.inner if settings.metric == "fisher" else torch.dot
    direction = blend(reward_direction, cost_direction, cost_weight, settings.conflict, inner)
    if settings.full_length:
        direction = unit(direction, fisher)
    step = math.sqrt(2.0 * delta) * direction
    if not torch.isfinite(step).all():
        return refused
    angle = cosine(reward_direction, cost_direction, inner)

    reference = collecting
    if settings.kl_reference == "previous":
        reference = policy(minibatch.obs).detach()
    kl = math.nan

    def within_limit() -> bool:
        nonlocal kl
        kl = float(kl_to(policy, minibatch.obs, reference, settings.kl_direction))
        return kl <= knobs.kl_limit if settings.rollback == "minibatch" else math.isfinite(kl)

    committed = trial_step(list(policy.parameters()), step, within_limit)
    if settings.rollback != "epoch":
        state.delta = next_delta(state, committed, knobs)
    return Minibatch(kl, committed, delta, angle)


def unit(direction: Tensor, fisher: FisherMetric) -> Tensor:
    """The direction scaled to length 1 in the Fisher norm; zero stays zero, and NaN stays NaN."""
    squared = fisher.inner(direction, direction)
    return torch.zeros_like(direction) if squared <= 0 else direction / squared.sqrt()


@torch.no_grad()
def kl_to(policy: GaussianPolicy, obs: Tensor, reference: Gaussian, direction: str) -> Tensor:
    """Mean KL between the reference and the present policy, in the chosen direction; nats."""
    present = policy(obs)
    return mean_kl(reference, present) if direction == "forward" else mean_kl(present, reference)


def next_delta(state: State, committed: bool, knobs: Knobs) -> float:
    """delta for the next trial, or the same one if it is not adaptive."""
    if not state.settings.adaptive_delta:
        return state.delta
    return adapt_delta(state.delta, committed, knobs.kl_limit)
