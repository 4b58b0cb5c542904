"""Fitting the two value functions to their targets: the same for every update rule."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kfcpo_lib.policies import Critics
from kfcpo_lib.rollouts import Batch, minibatches

MAX_GRADIENT_NORM = 40.0


@dataclass(frozen=True)
class CriticReport:
    """Mean squared errors over the fit's minibatches, and the steps refused as not finite."""

    loss_reward: float
    loss_cost: float
    nonfinite: int


def make_optimiser(critics: Critics, learning_rate: float) -> torch.optim.Adam:
    """One Adam for both critics: their steps do not mix, since Adam works per parameter."""
    return torch.optim.Adam(critics.parameters(), lr=learning_rate, foreach=True)


def fit_critics(
    critics: Critics,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    passes: int,
    minibatch: int,
    generator: torch.Generator,
) -> CriticReport:
    """Regress both critics on the batch's targets, in `passes` passes over its minibatches.

    Each critic's gradient is clipped to norm 40 on its own. A step whose gradient is not finite
    is left out and counted.
    """
    losses: list[Tensor] = []
    nonfinite = 0
    for index in minibatches(len(batch), minibatch, generator, passes):
        value_reward, value_cost = critics(batch.obs[index])
        loss_reward = nn.functional.mse_loss(value_reward, batch.target_reward[index])
        loss_cost = nn.functional.mse_loss(value_cost, batch.target_cost[index])
        optimiser.zero_grad(set_to_none=True)
        (loss_reward + loss_cost).backward()
        norm_reward = _clip(critics.reward)
        norm_cost = _clip(critics.cost)
        if not math.isfinite(float(norm_reward + norm_cost)):
            nonfinite += 1
            continue
        optimiser.step()
        losses.append(torch.stack([loss_reward.detach(), loss_cost.detach()]))
    means = torch.stack(losses).mean(dim=0) if losses else torch.full((2,), math.nan)
    return CriticReport(float(means[0]), float(means[1]), nonfinite)


def _clip(network: nn.Module) -> Tensor:
    return nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM, foreach=True)
