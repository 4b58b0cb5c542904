"""How good K-FAC is where weights are shared: tiny policies whose Fisher matrix can be formed.

A convolution reads a picture of one channel at T places; what the actions read of it decides how
good an approximation is. Two of them, for inputs a_t and scores g_t at the places:

    expand   A = sum_t E[a_t a_t'],  G = 1/T sum_t E[g_t g_t']         (KFC; `kfcpo_lib.KFAC`)
    reduce   A = E[a a'],  G = E[g g'],  a = 1/T sum_t a_t,  g = sum_t g_t

(the names and the second one: Eschenhagen et al. 2023, arXiv:2311.00636). Double precision.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.kfac_study import jacobian_fisher, relative_error

CHANNELS = 2
"""Outputs of the convolution, 2 x 2."""
READS = ("each place", "their mean")
"""What the actions read of the convolution's outputs: one action a place, or two of the mean."""
BENDS = ("tanh", "none (linear)")


class SharedPolicy(nn.Module):
    """Pictures [B, size * size] -> `Gaussian`, by one convolution and one linear map.

    Args:
        size: pixels of the picture's side; the convolution has (size - 1)^2 places.
        reads: one of `READS`.
        bend: one of `BENDS`, between convolution and actions.
        seed: of the weights.
    """

    def __init__(self, size: int = 4, reads: str = READS[0], bend: str = BENDS[0], seed: int = 0):
        super().__init__()
        self.size, self.reads = size, reads
        self.convolution = nn.Conv2d(1, CHANNELS, 2)
        self.bend = nn.Tanh() if bend == "tanh" else nn.Identity()
        self.head = nn.Linear(CHANNELS, 1 if reads == READS[0] else 2)
        generator = torch.Generator().manual_seed(seed)
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, obs: Tensor) -> Gaussian:
        """The action distribution for each picture."""
        pictures = obs.view(-1, 1, self.size, self.size)
        places = self.bend(self.convolution(pictures)).flatten(2).transpose(1, 2)
        if self.reads == READS[0]:
            mean = self.head(places).squeeze(2)
        else:
            mean = self.head(places.mean(dim=1))
        return Gaussian(mean, torch.zeros(mean.shape[1], dtype=mean.dtype))


def pictures(count: int = 200, size: int = 4, smooth: float = 0.5, seed: int = 1) -> Tensor:
    """[count, size * size] random pictures; `smooth` in [0, 1) is how alike their pixels are."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(count, size * size, generator=generator, dtype=torch.float64)
    shared = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    mixed: Tensor = (1 - smooth) ** 0.5 * own + smooth**0.5 * shared
    return mixed


class Statistics(NamedTuple):
    """What a layer sees and is told at its T places."""

    inputs: Tensor
    """[B, T, in]"""
    scores: Tensor
    """[S, B, T, out], a set for each action."""


def statistics(policy: SharedPolicy, obs: Tensor) -> Statistics:
    """Of the convolution."""
    return Statistics(*next(iter(KFAC(policy).statistics(obs))))


def expand(inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """A [in + 1, in + 1] and G [out, out] of KFC."""
    a = _with_one(inputs).flatten(0, 1)
    g = scores.flatten(0, 2)
    return a.T @ a / len(inputs), g.T @ g / inputs[..., 0].numel()


def reduce(inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """A and G after the places are taken together: inputs averaged, scores summed."""
    a = _with_one(inputs).mean(dim=1)
    g = scores.sum(dim=2).flatten(0, 1)
    return a.T @ a / len(inputs), g.T @ g / len(inputs)


def _with_one(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)


def exact_block(policy: SharedPolicy, obs: Tensor) -> Tensor:
    """[P, P] exact Fisher block of the convolution, each row of weights with its bias."""
    rows, columns = policy.convolution.weight.flatten(1).shape
    weights = torch.arange(rows * columns).view(rows, columns)
    biases = rows * columns + torch.arange(rows).view(rows, 1)
    order = torch.cat([weights, biases], dim=1).reshape(-1)
    fisher = jacobian_fisher(policy, obs)
    return fisher[order[:, None], order]


class Blocks(NamedTuple):
    """The convolution's block: the truth and two approximations, [P, P] each."""

    exact: Tensor
    expand: Tensor
    reduce: Tensor

    def error(self, name: str) -> float:
        """Relative error of `expand` or `reduce`."""
        return relative_error(getattr(self, name), self.exact)


def blocks(policy: SharedPolicy, obs: Tensor) -> Blocks:
    """All three, from the same pictures."""
    seen = statistics(policy, obs)
    kronecker = [torch.kron(g, a) for a, g in (expand(*seen), reduce(*seen))]
    return Blocks(exact_block(policy, obs), *kronecker)
