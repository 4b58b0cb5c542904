"""Checks of notebook 03: right answers pass, the usual wrong ones get the sentence they need."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kfcpo_lib.exercises.nb03 import check_kronecker_factors, check_precondition


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def factors(
    *, ones: str = "last", mean: bool = True, power: float = 1.0, remove: bool = True
) -> Callable[..., Any]:
    """A solution with switches for the usual slips."""

    def solve(policy: Any, layer: Any, obs: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []

        def remember(_: Any, inputs: Any, output: Tensor) -> None:
            seen.extend([inputs[0], output])

        handle = layer.register_forward_hook(remember)
        distribution = policy(obs)
        if remove:
            handle.remove()
        a, one = seen[0].detach(), torch.ones(len(obs), 1).double()
        a = {"last": [a, one], "first": [one, a], "none": [a]}[ones]
        a = torch.cat(a, dim=1)
        count = len(obs) if mean else 1
        g = torch.zeros(layer.out_features, layer.out_features).double()
        for k, std in enumerate(distribution.std.detach()):
            d = torch.autograd.grad(distribution.mean[:, k].sum(), seen[1], retain_graph=True)[0]
            d = d / std**power
            g = g + d.T @ d / count
        return a.T @ a / count, g

    return solve


right_factors = factors()


def eigen(change: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A preconditioner with another rule for the rotated matrix: (R, g, a, damping) -> R'."""

    def solve(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> Tensor:
        values_a, basis_a = torch.linalg.eigh(a)
        values_g, basis_g = torch.linalg.eigh(g)
        rotated = basis_g.T @ matrix @ basis_a
        return basis_g @ change(rotated, values_g[:, None], values_a, damping) @ basis_a.T

    return solve


right_precondition = eigen(lambda r, g, a, d: r / (g * a + d))


def summed_first(policy: Any, layer: Any, obs: Tensor) -> tuple[Tensor, Tensor]:
    a, _ = right_factors(policy, layer, obs)
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    distribution = policy(obs)
    handle.remove()
    total = (distribution.mean / distribution.std.detach()).sum()
    d = torch.autograd.grad(total, seen[0])[0]
    return a, d.T @ d / len(obs)


def changed(change: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return lambda policy, layer, obs: change(*right_factors(policy, layer, obs))


def not_turned_back(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> Tensor:
    values_a, basis_a = torch.linalg.eigh(a)
    values_g, basis_g = torch.linalg.eigh(g)
    return (basis_g.T @ matrix @ basis_a) / (torch.outer(values_g, values_a) + damping)


def turned_wrongly(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> Tensor:
    values_a, basis_a = torch.linalg.eigh(a)
    values_g, basis_g = torch.linalg.eigh(g)
    rotated = basis_g @ matrix @ basis_a.T
    return basis_g @ (rotated / (torch.outer(values_g, values_a) + damping)) @ basis_a.T


def dense(matrix: Tensor, a: Tensor, g: Tensor, damping: float) -> Tensor:
    block = torch.kron(g, a) + damping * torch.eye(matrix.numel()).double()
    return torch.linalg.solve(block, matrix.reshape(-1)).view_as(matrix)


def test_right_answers_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_kronecker_factors(right_factors)
    assert check_precondition(right_precondition)
    assert capsys.readouterr().out.count("right.") == 2


@pytest.mark.parametrize("check", [check_kronecker_factors, check_precondition])
def test_a_stub_is_not_solved_yet(check: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(lambda *_: None)
    assert "not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (factors(ones="none"), "bias is missing"),
        (factors(ones="first"), "the 1 stands first"),
        (factors(mean=False), "A is summed"),
        (changed(lambda a, g: (a, g * 30)), "G is summed"),
        (factors(power=0.0), "1/σ is missing"),
        (factors(power=0.5), "σ_k², a σ_k for each"),
        (factors(remove=False), "handle.remove()"),
        (changed(lambda a, g: (g, a)), "swapped"),
        (changed(lambda a, g: (a, g / 2)), "averaged over the action dimensions"),
        (summed_first, "added before the outer product"),
        (changed(lambda a, g: a), "return two matrices"),
        (changed(lambda a, g: (a, g[:-1])), "shape"),
    ],
)
def test_wrong_factors(wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_kronecker_factors(wrong)
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (eigen(lambda r, g, a, d: r / (g * a)), "damping is missing"),
        (eigen(lambda r, g, a, d: r / ((g + d) * (a + d))), "added to both factors; add"),
        (eigen(lambda r, g, a, d: r / ((g + d**0.5) * (a + d**0.5))), "√damping"),
        (eigen(lambda r, g, a, d: r * (g * a + d)), "multiplied"),
        (eigen(lambda r, g, a, d: r / (g + a + d)), "not sums"),
        (not_turned_back, "turn back"),
        (turned_wrongly, "turned the wrong way"),
        (lambda m, a, g, d: right_precondition(m, g, a, d), "swapped"),
        (lambda m, a, g, d: 2 * right_precondition(m, a, g, d), "differs"),
        (dense, "whole Kronecker product"),
        (lambda m, a, g, d: right_precondition(m, a, g, d).reshape(-1), "shape"),
    ],
)
def test_wrong_preconditioners(
    wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check_precondition(wrong)
    assert sentence in capsys.readouterr().out
