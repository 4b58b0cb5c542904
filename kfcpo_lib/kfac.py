"""K-FAC: the Fisher matrix of a Gaussian policy as one Kronecker product per layer.

A linear layer sees inputs a (with a 1 appended for the bias) and returns W a. Its block is

    F_W = E[(g g') kron (a a')]  ~  G kron A,    A = E[a a'],  G = E[g g'],

with g the gradient of log pi at the layer's output (Martens & Grosse 2015). The inverse costs
two small eigendecompositions a layer: G kron A + damping I has the eigenvectors U_G kron U_A and
the eigenvalues g_i a_j + damping. Vectors [P] are in the order of `policy.parameters()`.

Layers whose weights are used at many places (convolutions, recurrences) have blocks of the same
form: `kfcpo_lib.kfac_shared` says where their A and G come from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac_shared import KroneckerLayer, check_layer, inputs_by_place, scores_by_place

LOG_STD_FISHER = 2.0
"""The exact Fisher of log sigma, per action dimension; its block of F is 2 I."""


@dataclass
class KroneckerBlock:
    """The block of one layer with bias: factors and their eigendecompositions."""

    layer: KroneckerLayer
    input_factor: Tensor
    """A [in + 1, in + 1]; `in` is what one output looks at: of a convolution, a whole patch."""
    output_factor: Tensor
    """G [out, out]."""
    input_basis: Tensor
    output_basis: Tensor
    eigenvalues: Tensor
    """[out, in + 1] products g_i a_j of the factors' eigenvalues."""

    @classmethod
    def of(cls, layer: KroneckerLayer) -> "KroneckerBlock":
        """A block before its first statistics: both factors zero."""
        like = layer.weight.detach().flatten(1)
        n_out, n_in = like.shape[0], like.shape[1] + 1
        eye_in = torch.eye(n_in, dtype=like.dtype, device=like.device)
        eye_out = torch.eye(n_out, dtype=like.dtype, device=like.device)
        zeros = torch.zeros(n_out, n_in, dtype=like.dtype, device=like.device)
        return cls(layer, 0 * eye_in, 0 * eye_out, eye_in, eye_out, zeros)

    def average_in(self, inputs: Tensor, scores: Tensor, keep: float) -> None:
        """Moving average: keep * old + (1 - keep) * new, from the statistics of a batch.

        Args:
            inputs: [B, T, in] at the T places where the layer is used (a plain layer: at one).
            scores: [S, B, T, out]; the S sets are summed over, the new G is sum_s E[g_s g_s'].
            keep: share of the old factors.
        """
        batch, places, _ = inputs.shape
        a = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=2).flatten(0, 1)
        g = scores.flatten(0, 2)
        new_input, new_output = (1 - keep) / batch, (1 - keep) / (batch * places)
        self.input_factor = self.input_factor * keep + (a.T @ a) * new_input
        self.output_factor = self.output_factor * keep + (g.T @ g) * new_output

    def decompose(self) -> None:
        """Refresh the eigendecompositions from the factors."""
        input_values, self.input_basis = torch.linalg.eigh(self.input_factor)
        output_values, self.output_basis = torch.linalg.eigh(self.output_factor)
        self.eigenvalues = torch.outer(output_values.clamp(min=0), input_values.clamp(min=0))

    def apply(self, matrix: Tensor, spectrum: Tensor) -> Tensor:
        """The operator with the block's eigenvectors and this spectrum, on [out, in + 1]."""
        rotated = self.output_basis.T @ matrix @ self.input_basis
        return self.output_basis @ (spectrum * rotated) @ self.input_basis.T

    def dense(self) -> Tensor:
        """G kron A, from the decomposed factors; rows of W one after the other, bias last."""
        like = self.eigenvalues
        eye = torch.eye(like.numel(), dtype=like.dtype, device=like.device)
        columns = [self.apply(e.view_as(self.eigenvalues), self.eigenvalues) for e in eye]
        return torch.stack([column.reshape(-1) for column in columns], dim=1)


class KFAC:
    """Natural gradients of a Gaussian policy by Kronecker factors.

    Args:
        module: a policy, states [B, obs_dim] -> `Gaussian`, whose parameters are linear and
            convolutional layers with bias, and `log_std` if it has one. A layer that is used
            several times in a forward pass shares its weights over time.
        damping: added to every eigenvalue, so the operator is exactly G kron A + damping I.
        decay: share of the old statistics that each moving average keeps.
        factor_period: T_s, statistics are refreshed at every T_s-th `update_factors`.
        inverse_period: T_f, eigendecompositions at every T_f-th.
        sampled: draw actions from the policy for G (Monte Carlo) instead of the exact sum.
        generator: source of the drawn actions.

    Raises:
        ValueError: on a module with other parameters, or a setting outside its range.
    """

    def __init__(
        self,
        module: nn.Module,
        damping: float = 1e-2,
        decay: float = 0.95,
        *,
        factor_period: int = 1,
        inverse_period: int = 1,
        sampled: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_settings(damping, decay, factor_period, inverse_period)
        self.module = module
        self.damping, self.decay = damping, decay
        self.factor_period, self.inverse_period = factor_period, inverse_period
        self.sampled, self.generator = sampled, generator
        self.blocks = [KroneckerBlock.of(layer) for layer in kronecker_layers(module)]
        self.calls = 0
        self._slots = self._find_slots()

    def update_factors(self, obs: Tensor) -> None:
        """Take the statistics of a batch of states [B, obs_dim] into the moving averages.

        The first batch is taken as it is. Factors and eigendecompositions are refreshed when
        their period is due.
        """
        if self.calls % self.factor_period == 0:
            keep = self.decay if self.calls else 0.0
            for block, (inputs, scores) in zip(self.blocks, self.statistics(obs), strict=True):
                block.average_in(inputs, scores, keep)
        if self.calls % self.inverse_period == 0:
            for block in self.blocks:
                block.decompose()
        self.calls += 1

    def precondition(self, grads: Tensor) -> Tensor:
        """[P] natural gradient (F + damping I)^-1 grads."""
        return self._apply(grads, power=-1)

    def multiply(self, vector: Tensor) -> Tensor:
        """[P] (F + damping I) vector, the inverse of `precondition`."""
        return self._apply(vector, power=1)

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """Scalar u' (F + damping I) v: the inner product of the (damped) Fisher metric."""
        return u @ self.multiply(v)

    def dense(self) -> Tensor:
        """[P, P] the same operator as a matrix, without damping, for tests and pictures."""
        size = sum(p.numel() for p in self.module.parameters())
        like = next(self.module.parameters())
        matrix = torch.zeros(size, size, dtype=like.dtype, device=like.device)
        for block, weight, bias in self._slots[1]:
            n_out = len(block.layer.weight)
            rows = torch.arange(weight.start, weight.stop).view(n_out, -1)
            biases = torch.arange(bias.start, bias.stop).view(n_out, 1)
            where = torch.cat([rows, biases], dim=1).reshape(-1)
            matrix[where[:, None], where[None, :]] = block.dense()
        for index in self._slots[0]:
            matrix[index, index] = LOG_STD_FISHER
        return matrix

    def _apply(self, vector: Tensor, power: int) -> Tensor:
        result = torch.empty_like(vector)
        log_std, layers = self._slots
        result[log_std] = vector[log_std] * (LOG_STD_FISHER + self.damping) ** power
        for block, weight, bias in layers:
            n_out = len(block.layer.weight)
            gradient = torch.cat([vector[weight].view(n_out, -1), vector[bias].unsqueeze(1)], dim=1)
            spectrum = (block.eigenvalues + self.damping) ** power
            image = block.apply(gradient, spectrum)
            result[weight] = image[:, :-1].reshape(-1)
            result[bias] = image[:, -1]
        return result

    def statistics(self, obs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each layer: its inputs [B, T, in], and its scores [S, B, T, out] (see `scores`)."""
        layers = [block.layer for block in self.blocks]
        distribution, passes = remember_passes(self.module, layers, obs)
        if not all(passes):
            raise ValueError("KFAC needs every layer to be used in a forward pass")
        if self.sampled:
            directions = sampled_scores(distribution, self.generator)
        else:
            directions = exact_scores(distribution)
        outputs = [output for uses in passes for _, output in uses]
        gradients = [
            torch.autograd.grad(distribution.mean, outputs, direction, retain_graph=True)
            for direction in directions
        ]
        scores = (torch.stack(use) for use in zip(*gradients, strict=True))
        for layer, uses in zip(layers, passes, strict=True):
            inputs = inputs_by_place(layer, [seen for seen, _ in uses])
            yield inputs, scores_by_place(layer, [next(scores) for _ in uses])

    def _find_slots(self) -> tuple[Tensor, list[tuple[KroneckerBlock, slice, slice]]]:
        """Where log_std, and each layer's weight and bias, stand in a flat vector."""
        slices: dict[str, slice] = {}
        start = 0
        for name, parameter in self.module.named_parameters():
            slices[name] = slice(start, start + parameter.numel())
            start += parameter.numel()
        names = {id(module): name for name, module in self.module.named_modules()}
        layers = []
        for block in self.blocks:
            prefix = f"{names[id(block.layer)]}." if names[id(block.layer)] else ""
            layers.append((block, slices.pop(f"{prefix}weight"), slices.pop(f"{prefix}bias")))
        log_std = slices.pop("log_std", slice(0, 0))
        if slices:
            raise ValueError(
                f"KFAC knows linear layers, convolutions and log_std, not {', '.join(slices)}"
            )
        return torch.arange(log_std.start, log_std.stop), layers

    def state_dict(self) -> dict[str, Any]:
        """Factors, decompositions and the count of calls, as tensors and numbers."""
        names = ("input_factor", "output_factor", "input_basis", "output_basis", "eigenvalues")
        blocks = [{name: getattr(block, name) for name in names} for block in self.blocks]
        return {"calls": self.calls, "blocks": blocks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same module and settings."""
        self.calls = state["calls"]
        for block, saved in zip(self.blocks, state["blocks"], strict=True):
            for name, value in saved.items():
                setattr(block, name, value.to(block.layer.weight.device))


def check_settings(damping: float, decay: float, factor_period: int, inverse_period: int) -> None:
    """Raise a ValueError that names the setting of `KFAC` that is outside its range."""
    if not 0 <= damping < float("inf"):
        raise ValueError(f"damping must be non-negative and finite, got {damping!r}")
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay!r}")
    for name, period in (("factor_period", factor_period), ("inverse_period", inverse_period)):
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {period!r}")


def kronecker_layers(module: nn.Module) -> list[KroneckerLayer]:
    """The linear and convolutional layers of a module, in the order of its parameters.

    Raises:
        ValueError: if one of them has no bias, or is a convolution of another kind.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, KroneckerLayer)]
    for layer in layers:
        check_layer(layer)
    return layers


def remember_passes(
    module: nn.Module, layers: Sequence[KroneckerLayer], obs: Tensor
) -> tuple[Gaussian, list[list[tuple[Tensor, Tensor]]]]:
    """The policy's answer, and for each layer the (input, output) of each of its uses."""
    passes: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def remember(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        passes[layer].append((args[0].detach(), output))

    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        distribution = module(obs)
    finally:
        for hook in hooks:
            hook.remove()
    return distribution, [*passes.values()]


def exact_scores(distribution: Gaussian) -> Iterator[Tensor]:
    """Output directions [B, act_dim], one per action dimension, whose layer gradients give G.

    G = sum_k sigma_k^-2 E[d_k d_k'] with d_k the gradient of mu_k at the layer's output: the
    expectation over actions is taken exactly, by one backward pass per action dimension.
    """
    mean, std = distribution.mean, distribution.std.detach().expand_as(distribution.mean)
    for k in range(mean.shape[1]):
        direction = torch.zeros_like(mean)
        direction[:, k] = 1.0 / std[:, k]
        yield direction


def sampled_scores(distribution: Gaussian, generator: torch.Generator | None) -> Iterator[Tensor]:
    """The Monte Carlo version: one direction (a - mu) / sigma^2 with a drawn from the policy."""
    actions = distribution.sample(generator)
    yield ((actions - distribution.mean) / distribution.std**2).detach()
