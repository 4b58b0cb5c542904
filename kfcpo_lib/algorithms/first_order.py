"""The frame that every first-order rule shares: passes of Adam over minibatches, a KL stop.

A rule is a loss of the steps in a minibatch. After each pass the mean KL from a reference policy
is measured over the whole epoch's states; the first pass that exceeds the limit is the last one,
and it is kept: what KFCPO's rollback undoes per minibatch, these rules accept per pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kfcpo_lib.critics import MAX_GRADIENT_NORM
from kfcpo_lib.gaussians import Gaussian, mean_kl
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import POSITIVE, Minibatch, UpdateReport, check_integer, check_number
from kfcpo_lib.rollouts import Batch, minibatches
from kfcpo_lib.streams import Streams
from kfcpo_lib.trust_region import restore, snapshot

Loss = Callable[[Tensor], Tensor]
"""Indices [M] of some of the epoch's steps -> a scalar to minimise."""


@dataclass(frozen=True)
class FirstOrderSettings:
    """What all first-order rules can be told. Raises ValueError on what is not allowed."""

    learning_rate: float = 1e-3
    """Adam's, and constant: published code lets 3e-4 fall to zero over the training."""
    passes: int = 20
    """At most; the KL limit may end them earlier."""
    minibatch_size: int = 500
    """Published code takes 64 at 3e-4 and 40 passes: many times the cost."""
    ratio_clip: float = 0.2

    def __post_init__(self) -> None:
        for name in ("learning_rate", "ratio_clip"):
            check_number(name, getattr(self, name), POSITIVE)
        for name in ("passes", "minibatch_size"):
            check_integer(name, getattr(self, name), 1)


@dataclass
class FirstOrderState:
    """Adam's averages, and where the order of the minibatches comes from."""

    settings: Any
    optimiser: torch.optim.Optimizer
    generator: torch.Generator

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Any, streams: Streams) -> "FirstOrderState":
        """The state before the first update."""
        adam = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate, foreach=True)
        return cls(settings, adam, streams.minibatches)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: every part that has a state; the random streams have their own."""
        parts = vars(self).items()
        return {name: part.state_dict() for name, part in parts if hasattr(part, "state_dict")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


def adam_passes(
    policy: GaussianPolicy,
    batch: Batch,
    loss: Loss,
    reference: Gaussian,
    kl_limit: float,
    state: FirstOrderState,
) -> UpdateReport:
    """Minimise the loss over minibatches, until a pass has brought the KL above the limit.

    Args:
        policy: changed in place. A pass that ends in numbers that are not finite is undone.
        batch: the epoch's data.
        loss: of the policy as it is at the call.
        reference: the KL is KL(reference || policy), mean over the epoch's states.
        kl_limit: nats.
        state: carried from epoch to epoch, changed in place.

    Returns:
        A row per pass.
    """
    settings, rows, refused = state.settings, list[Minibatch](), 0
    for _ in range(settings.passes):
        before = snapshot(policy.parameters())
        for index in minibatches(len(batch), settings.minibatch_size, state.generator):
            refused += not adam_step(policy, loss(index), state.optimiser)
        with torch.no_grad():
            kl = float(mean_kl(reference, policy(batch.obs)))
        finite = math.isfinite(kl)
        rows.append(Minibatch(kl if finite else math.nan, finite, math.nan, math.nan))
        if not finite:
            restore(policy.parameters(), before)
        if not kl <= kl_limit:
            break
    kept = [row.kl for row in rows if row.committed]
    nonfinite = refused + len(rows) - len(kept)
    return UpdateReport(rows, math.nan, kept[-1] if kept else 0.0, nonfinite)


def adam_step(policy: GaussianPolicy, loss: Tensor, optimiser: torch.optim.Optimizer) -> bool:
    """One step, its gradient clipped to norm 40; False, and none, if that is not finite."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRADIENT_NORM, foreach=True)
    if not torch.isfinite(norm):
        return False
    optimiser.step()
    return True
