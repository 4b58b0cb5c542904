"""The diagonal Gaussian: the distribution of every policy in the course.

Quantities of a distribution are summed over action dimensions, so each is one number a state.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions of the action's components, one Gaussian a state."""

    mean: Tensor
    """[B, act_dim]"""
    log_std: Tensor
    """[act_dim], the same in every state, or [B, act_dim]."""

    @property
    def std(self) -> Tensor:
        """Standard deviations, shaped as `log_std`."""
        return self.log_std.exp()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """[B, act_dim] actions drawn from each state's Gaussian."""
        mean = self.mean.detach()
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        return mean + self.std.detach() * noise.to(mean.device)

    def log_prob(self, actions: Tensor) -> Tensor:
        """[B] log-density of the actions [B, act_dim]."""
        standardised = (actions - self.mean) / self.std
        return (-0.5 * standardised**2 - self.log_std - LOG_SQRT_2PI).sum(-1)

    def kl(self, other: "Gaussian") -> Tensor:
        """[B] KL(self || other) in nats.

        >>> zero, one = torch.zeros(1, 2), torch.ones(1, 2)
        >>> Gaussian(zero, zero[0]).kl(Gaussian(one, zero[0]))
        tensor([1.])
        """
        log_ratio = other.log_std - self.log_std
        variance_ratio = torch.exp(-2.0 * log_ratio)
        distance = ((self.mean - other.mean) / other.std) ** 2
        return (log_ratio + 0.5 * (variance_ratio + distance - 1.0)).sum(-1)

    def detach(self) -> "Gaussian":
        """The same numbers, cut from the network: a policy to compare with."""
        return Gaussian(self.mean.detach(), self.log_std.detach().clone())

    def rows(self, index: Tensor) -> "Gaussian":
        """The Gaussians of some of the states."""
        log_std = self.log_std[index] if self.log_std.ndim == 2 else self.log_std
        return Gaussian(self.mean[index], log_std)


def mean_kl(old: Gaussian, new: Gaussian) -> Tensor:
    """Mean over states of KL(old || new): nats, summed over action dimensions. A scalar."""
    return old.kl(new).mean()
