"""Checks of notebook 03: the factors of a layer with hooks, and the preconditioner."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from kfcpo_lib.exercises.checking import (
    Wrong,
    close,
    exercise,
    name_the_slip,
    same_shape,
    solved,
)
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.policies import GaussianPolicy

HookFactors = Callable[[nn.Module, nn.Module, Tensor], tuple[Tensor, Tensor]]
Precondition = Callable[[Tensor, Tensor, Tensor, float], Tensor]
NO_KRON = (
    "you build the whole Kronecker product, a matrix as large as the layer's block; "
    "the point is to need the two factors' eigenbases only."
)


@exercise("Factors with hooks")
def check_kronecker_factors(kronecker_factors: HookFactors) -> None:
    """`kronecker_factors(policy, layer, obs) -> (A, G)` on every layer of a fresh policy."""
    policy = GaussianPolicy(3, 2, (5, 4)).double()
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([-0.7, 0.4]))
        policy.mean_net[-1].get_parameter("weight").mul_(100.0)
    obs = torch.randn(30, 3, dtype=torch.float64) + 0.5
    kfac = KFAC(policy)
    kfac.update_factors(obs)
    for block in kfac.blocks:
        answer = solved(kronecker_factors(policy, block.layer, obs))
        if any(True for layer in policy.modules() for _ in layer._forward_hooks):
            raise Wrong("a hook is still on the layer: call handle.remove() after the pass.")
        if not (isinstance(answer, tuple | list) and len(answer) == 2):
            raise Wrong("return two matrices: A, G.")
        _judge_input_factor(answer[0], block.input_factor, block.output_factor, len(obs))
        _judge_output_factor(answer[1], policy, block.layer, obs, block.output_factor)


def _judge_input_factor(answer: Any, a: Tensor, g: Tensor, count: int) -> None:
    if close(answer, a):
        return
    last = torch.arange(-1, len(a) - 1)
    slips = {
        "the bias is missing: append a 1 to each input before A.": a[:-1, :-1],
        "A is summed over the states; it should be their mean.": a * count,
        "the 1 stands first; append it at the end, as the library does.": a[last][:, last],
        "A and G are swapped: return A first.": g,
    }
    name_the_slip(answer, slips, 1e-5)
    same_shape(answer, a, "A")
    raise Wrong("A should be E[a a'] of the layer's inputs, each with a 1 appended.")


def _judge_output_factor(
    answer: Any, policy: GaussianPolicy, layer: nn.Module, obs: Tensor, right: Tensor
) -> None:
    if close(answer, right):
        return
    gradients, std = _mean_gradients(policy, layer, obs), policy.log_std.detach().exp()
    total = (gradients / std[:, None, None]).sum(0)
    slips = {
        "G is summed over the states; it should be their mean.": right * len(obs),
        "1/σ is missing: G weighs each action's gradient by 1 / σ_k².": _outer(gradients),
        "you divided the outer product by σ_k; it takes σ_k², a σ_k for each of its two sides.": (
            _outer(gradients / std.sqrt()[:, None, None])
        ),
        "you averaged over the action dimensions; G is their sum.": right / len(std),
        "the actions' gradients were added before the outer product; add their products.": (
            total.T @ total / len(obs)
        ),
        "only the first action's gradient is there; sum over all of them.": (
            _outer(gradients[:1] / std[:1, None, None])
        ),
    }
    name_the_slip(answer, slips, 1e-5)
    same_shape(answer, right, "G")
    raise Wrong("G should be the sum over actions k of E[d_k d_k'] / σ_k².")


def _mean_gradients(policy: GaussianPolicy, layer: nn.Module, obs: Tensor) -> Tensor:
    """[act_dim, B, out] gradients of each mean at the layer's output."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    mean = policy(obs).mean
    handle.remove()
    parts = [torch.autograd.grad(m.sum(), outputs[0], retain_graph=True)[0] for m in mean.T]
    return torch.stack(parts)


def _outer(gradients: Tensor) -> Tensor:
    flat = gradients.flatten(0, 1)
    product: Tensor = flat.T @ flat / gradients.shape[1]
    return product


@exercise("Preconditioner")
def check_precondition(precondition: Precondition) -> None:
    """`precondition(matrix [out, in + 1], A, G, damping)` against the dense inverse."""
    for n_out, n_in, damping in ((4, 4, 0.5), (3, 5, 0.3), (4, 2, 0.05)):
        matrix = torch.randn(n_out, n_in, dtype=torch.float64)
        a, g = _factor(n_in), _factor(n_out)
        with patch.object(torch, "kron", side_effect=Wrong(NO_KRON)):
            answer = solved(precondition(matrix.clone(), a.clone(), g.clone(), damping))
        same_shape(answer, matrix, "the result")
        if not close(answer, _dense_solve(matrix, a, g, damping)):
            _explain(answer, matrix, a, g, damping)


def _factor(size: int) -> Tensor:
    root = torch.randn(size, 2 * size, dtype=torch.float64)
    return root @ root.T / (2 * size)


def _dense_solve(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> Tensor:
    eye = torch.eye(matrix.numel(), dtype=matrix.dtype)
    solution = torch.linalg.solve(torch.kron(g, a) + damping * eye, matrix.reshape(-1))
    shaped: Tensor = solution.view_as(matrix)
    return shaped


def _explain(answer: Any, matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> None:
    name_the_slip(answer, _slips_of_damping(matrix, a, g, damping), 1e-5)
    name_the_slip(answer, _slips_of_eigenbasis(matrix, a, g, damping), 1e-5)
    if a.shape == g.shape and close(answer, _dense_solve(matrix, g, a, damping), 1e-5):
        raise Wrong("A and G are swapped: G acts on the rows, A on the columns.")
    raise Wrong("the result differs from (G ⊗ A + damping I)⁻¹ applied to the matrix.")


def _slips_of_damping(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> dict[str, Tensor]:
    """Missing, or in the wrong place."""
    none, whole, root = (_both_sides(matrix, a, g, d) for d in (0.0, damping, damping**0.5))
    return {
        "the damping is missing: divide by g_i a_j + damping.": none,
        "damping was added to both factors; add it to the products g_i a_j.": whole,
        "√damping was added to both factors; ours is exact: add damping to the products "
        "g_i a_j.": root,
    }


def _slips_of_eigenbasis(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> dict[str, Tensor]:
    """Wrong eigenvalues, or turned the wrong way."""
    values_a, basis_a = torch.linalg.eigh(a)
    values_g, basis_g = torch.linalg.eigh(g)
    rotated = basis_g.T @ matrix @ basis_a
    damped = torch.outer(values_g, values_a) + damping
    sums = values_g[:, None] + values_a + damping
    wrongly_turned = basis_g @ matrix @ basis_a.T
    return {
        "you multiplied by the eigenvalues; the inverse divides by them.": (
            basis_g @ (rotated * damped) @ basis_a.T
        ),
        "the eigenvalues of a Kronecker product are products g_i a_j, not sums.": (
            basis_g @ (rotated / sums) @ basis_a.T
        ),
        "you did not turn back: finish with U_G (...) U_A'.": rotated / damped,
        "the matrix was turned the wrong way first: U_G' M U_A.": (
            basis_g @ (wrongly_turned / damped) @ basis_a.T
        ),
    }


def _both_sides(matrix: Tensor, a: Tensor, g: Tensor, extra: float) -> Tensor:
    left = g + extra * torch.eye(len(g), dtype=g.dtype)
    right = a + extra * torch.eye(len(a), dtype=a.dtype)
    solved_left: Tensor = torch.linalg.solve(left, matrix)
    result: Tensor = torch.linalg.solve(right, solved_left.T).T
    return result
