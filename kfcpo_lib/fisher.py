"""The Fisher matrix of a Gaussian policy, exactly: as a matrix, and as an operator.

For a network mean mu(s) and log standard deviations that do not depend on the state,

    F = E[J' diag(1 / sigma^2) J]  for the network's parameters,   2 I  for log sigma,

with J the Jacobian of mu(s): the Hessian of the mean KL at equal policies (Amari 1998).
A policy here is any module that maps states [B, obs_dim] to a `Gaussian`. Vectors [P] are in
the order of `policy.parameters()`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kfcpo_lib.gaussians import mean_kl
from kfcpo_lib.trust_region import flat_gradient, flatten

Operator = Callable[[Tensor], Tensor]


def exact_fisher(policy: nn.Module, obs: Tensor) -> Tensor:
    """[P, P] Fisher matrix averaged over the states; for policies of a few thousand parameters.

    One row of the Jacobian, divided by sigma_k, for every state and action dimension; their outer
    products add up to F.
    """
    parameters = list(policy.parameters())
    distribution = policy(obs)
    if distribution.log_std.ndim != 1:
        raise ValueError("exact_fisher needs a log std that does not depend on the state")
    std = distribution.std.detach()
    total = sum(p.numel() for p in parameters)
    fisher = torch.zeros(total, total, dtype=obs.dtype, device=obs.device)
    for mean in distribution.mean:
        for k, component in enumerate(mean):
            row = flat_gradient(component, parameters) / std[k]
            fisher += torch.outer(row, row)
    for component in distribution.log_std if distribution.log_std.requires_grad else ():
        row = flat_gradient(component, parameters)
        fisher += 2.0 * len(obs) * torch.outer(row, row)
    return fisher / len(obs)


def fisher_operator(policy: nn.Module, obs: Tensor, damping: float = 0.0) -> Operator:
    """v [P] -> (F + damping I) v [P], by differentiating the mean KL twice; F is never formed."""
    parameters = list(policy.parameters())
    distribution = policy(obs)
    kl = mean_kl(distribution.detach(), distribution)
    gradient = flatten(torch.autograd.grad(kl, parameters, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        return flat_gradient(gradient @ vector, parameters) + damping * vector

    return product


def conjugate_gradient(
    operator: Operator, target: Tensor, iterations: int = 15, tolerance: float = 1e-10
) -> Tensor:
    """[P] x with operator(x) = target, approximately (Hestenes & Stiefel 1952).

    Stops early when the residual is below `tolerance` times the length of `target`.
    """
    solution = torch.zeros_like(target)
    residual = target.clone()
    direction = residual.clone()
    squared = residual @ residual
    goal = tolerance**2 * squared
    for _ in range(iterations):
        if squared <= goal:
            break
        image = operator(direction)
        stride = squared / (direction @ image)
        solution += stride * direction
        residual -= stride * image
        previous, squared = squared, residual @ residual
        direction = residual + (squared / previous) * direction
    return solution


class FisherMetric(Protocol):
    """What an update rule needs of the Fisher matrix, by K-FAC or by conjugate gradient."""

    def update_factors(self, obs: Tensor) -> None:
        """Look at a batch of states [B, obs_dim]."""

    def precondition(self, grads: Tensor) -> Tensor:
        """[P] natural gradient (F + damping I)^-1 grads."""

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """Scalar u' (F + damping I) v."""

    def state_dict(self) -> dict[str, Any]:
        """What the next batch needs of this one."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""


class ConjugateGradientFisher:
    """The exact Fisher matrix of the last batch, inverted by conjugate gradient.

    Stands wherever a `kfcpo_lib.KFAC` does. Nothing is remembered from batch to batch.
    """

    def __init__(self, module: nn.Module, damping: float = 1e-2, iterations: int = 15) -> None:
        self.module, self.damping, self.iterations = module, damping, iterations

    def update_factors(self, obs: Tensor) -> None:
        """Take the Fisher matrix of these states [B, obs_dim]."""
        self.multiply = fisher_operator(self.module, obs, self.damping)

    def precondition(self, grads: Tensor) -> Tensor:
        """[P] (F + damping I)^-1 grads, approximately."""
        return conjugate_gradient(self.multiply, grads, self.iterations)

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """Scalar u' (F + damping I) v."""
        return u @ self.multiply(v)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""
