"""One trial step: snapshot, move, test, keep or restore to the bit.

KFCPO's rollback, the line search of TRPO and CPO, and the KL stop of PPO are all this.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

DELTA_FLOOR = 1e-6


def flat_gradient(objective: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """[P] gradient of a scalar; the graph is kept, and unused parameters count as zero."""
    gradients = torch.autograd.grad(
        objective, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return flatten(gradients)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """[P] all entries, one tensor after the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def snapshot(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def restore(parameters: Iterable[nn.Parameter], before: Iterable[Tensor]) -> None:
    """Give every parameter back its value of `snapshot`, bit for bit."""
    for parameter, value in zip(parameters, before, strict=True):
        parameter.copy_(value)


@torch.no_grad()
def move(parameters: Sequence[nn.Parameter], step: Tensor) -> None:
    """Add the flat step [P] to the parameters."""
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, step.split(sizes), strict=True):
        parameter.add_(part.view_as(parameter))


def trial_step(
    parameters: Sequence[nn.Parameter], step: Tensor, accept: Callable[[], bool]
) -> bool:
    """Move the parameters by `step` [P]; keep the move if `accept()` says so, else undo it.

    The undo is exact, also when `accept` raises: every parameter gets its old bits back.
    """
    before = snapshot(parameters)
    accepted = False
    try:
        move(parameters, step)
        accepted = accept()
    finally:
        if not accepted:
            restore(parameters, before)
    return accepted


def adapt_delta(
    delta: float, committed: bool, kl_limit: float, *, grow: float = 1.05, shrink: float = 0.7
) -> float:
    """Next trust-region size in nats: larger after a commit, smaller after a rollback.

    A fixed size can be refused for ever; this one finds what the KL limit allows.
    Stays in [1e-6, kl_limit].
    """
    return min(max(delta * (grow if committed else shrink), DELTA_FLOOR), kl_limit)
