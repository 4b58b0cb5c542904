"""Checks of notebook 02: right answers pass, the usual wrong ones get the sentence they need."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kfcpo_lib.exercises.nb02 import (
    check_conjugate_gradient,
    check_fisher_from_scores,
    check_natural_step,
)

CHECKS = (check_fisher_from_scores, check_natural_step, check_conjugate_gradient)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def solve(fisher: Tensor, damping: float, gradient: Tensor) -> Tensor:
    return torch.linalg.solve(fisher + damping * torch.eye(len(fisher)).double(), gradient)


def right_step(g: Tensor, f: Tensor, delta: float, damping: float) -> Tensor:
    x = solve(f, damping, g)
    return (2 * delta / (g @ x)) ** 0.5 * x


def cg(beta: Callable[[Tensor, Tensor], Tensor], *, guard: bool = True, extra: int = 0) -> Callable:
    def run(operator: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
        x, r = torch.zeros_like(target), target.clone()
        d = r.clone()
        for _ in range(iterations + extra):
            if guard and r @ r < 1e-20:
                break
            image, old = operator(d), r @ r
            stride = old / (d @ image)
            x, r = x + stride * d, r - stride * image
            d = r + beta(r @ r, old) * d
        return x

    return run


right_cg = cg(lambda new, old: new / old)


def cg_twice(operator: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    return right_cg(lambda v: (operator(v) + operator(v)) / 2, target, iterations)


def cg_from_a_residual(operator: Callable, target: Tensor, iterations: int) -> Tensor:
    return right_cg(operator, target - operator(0 * target), iterations)


def cg_in_place(operator: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    answer = right_cg(operator, target, iterations)
    target -= operator(answer)
    return answer


def test_right_answers_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_fisher_from_scores(lambda s: s.T @ s / len(s))
    assert check_fisher_from_scores(lambda s: torch.einsum("ni,nj->ij", s, s) / s.shape[0])
    assert check_natural_step(right_step)
    assert check_conjugate_gradient(right_cg)
    assert check_conjugate_gradient(cg_from_a_residual)
    assert capsys.readouterr().out.count("right.") == 5


@pytest.mark.parametrize("check", CHECKS)
def test_a_stub_is_not_solved_yet(check: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(lambda *_: None)
    assert "not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda s: s.T @ s, "sum over the samples"),
        (lambda s: s @ s.T / len(s), "[N, N]"),
        (lambda s: torch.cov(s.T), "torch.cov"),
        (lambda s: torch.cov(s.T, correction=0), "subtracted the sample mean;"),
        (lambda s: torch.outer(s.mean(0), s.mean(0)), "averaged the scores first"),
        (lambda s: torch.diag((s**2).mean(0)), "only the squares"),
        (lambda s: s.T @ s / (len(s) - 1), "not by N - 1"),
        (lambda s: s.T @ s / s.shape[1], "not over the P parameters"),
        (lambda s: (s**2).mean(0), "shape"),
        (lambda s: s.T @ s / len(s) + 1, "outer products"),
    ],
)
def test_wrong_fishers(wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_fisher_from_scores(wrong)
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda g, f, d, c: -right_step(g, f, d, c), "sign"),
        (lambda g, f, d, c: right_step(g, f, d, 0.0), "damping is missing"),
        (lambda g, f, d, c: solve(f, c, g), "not scaled"),
        (lambda g, f, d, c: right_step(g, f, d / 2, c), "factor 2"),
        (lambda g, f, d, c: 2 * d / (g @ solve(f, c, g)) * solve(f, c, g), "square root"),
        (lambda g, f, d, c: f @ g + c * g, "multiplied by F"),
        (
            lambda g, f, d, c: (2 * d / (g @ f @ g + c * g @ g)) ** 0.5 * g,
            "plain gradient, scaled",
        ),
        (lambda g, f, d, c: (2 * d) ** 0.5 * solve(f, c, g) / solve(f, c, g).norm(), "‖x‖"),
        (lambda g, f, d, c: torch.linalg.solve(f + c, g), "every entry"),
        (
            lambda g, f, d, c: (
                (2 * d / (solve(f, c, g) @ f @ solve(f, c, g))) ** 0.5 * solve(f, c, g)
            ),
            "undamped F",
        ),
        (lambda g, f, d, c: 3 * right_step(g, f, d, c), "should be sqrt"),
        (lambda g, f, d, c: right_step(g, f, d, c)[:, None], "shape"),
    ],
)
def test_wrong_steps(wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_natural_step(wrong)
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (cg(lambda new, old: 0 * new), "steepest descent"),
        (cg(lambda new, old: old / new), "upside down"),
        (cg(lambda new, old: new / new), "compares the residual with itself"),
        (cg(lambda new, old: new / old, guard=False), "zero by zero"),
        (cg(lambda new, old: new / old, extra=-1), "missing"),
        (cg(lambda new, old: new / old, extra=1), "too many"),
        (cg_in_place, "changes `target`"),
        (cg_twice, "one call an iteration"),
        (lambda op, t, n: -right_cg(op, t, n), "sign"),
        (lambda op, t, n: t - op(right_cg(op, t, n)), "left over"),
        (lambda op, t, n: right_cg(op, t, 50), "exact solution"),
        (lambda op, t, n: 2 * right_cg(op, t, n), "not that of conjugate gradient"),
    ],
)
def test_wrong_solvers(wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_conjugate_gradient(wrong)
    assert sentence in capsys.readouterr().out
