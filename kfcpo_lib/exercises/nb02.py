"""Checks of notebook 02: the Fisher matrix from scores, the natural step, conjugate gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kfcpo_lib.exercises.checking import (
    Wrong,
    close,
    exercise,
    name_the_slip,
    same_shape,
    solved,
)
from kfcpo_lib.fisher import conjugate_gradient

ROUNDS = 3


def _positive_matrix(size: int) -> Tensor:
    root = torch.randn(size, size, dtype=torch.float64)
    return root @ root.T / size + 0.3 * torch.eye(size, dtype=torch.float64)


@exercise("Fisher matrix from scores")
def check_fisher_from_scores(fisher_from_scores: Callable[[Tensor], Tensor]) -> None:
    """`fisher_from_scores(scores [N, P]) -> [P, P]` against E[s s'] and the usual slips."""
    for _ in range(ROUNDS):
        scores = torch.randn(40, 3, dtype=torch.float64) + 1.0
        answer = solved(fisher_from_scores(scores.clone()))
        if not close(answer, scores.T @ scores / len(scores)):
            _explain_fisher(answer, scores)


def _explain_fisher(answer: Any, scores: Tensor) -> None:
    centred = scores - scores.mean(0)
    mean = scores.mean(0)
    slips = {
        "you averaged the scores first; take the outer product of each score, then the mean.": (
            torch.outer(mean, mean)
        ),
        "you have the sum over the samples; the expectation needs their mean.": scores.T @ scores,
        "the products should be averaged over the N samples, not over the P parameters.": (
            scores.T @ scores / scores.shape[1]
        ),
        "you subtracted the sample mean; the mean score of a policy is zero by itself.": (
            centred.T @ centred / len(scores)
        ),
        "you subtracted the sample mean and divided by N - 1, as torch.cov does; "
        "F is the plain mean of s s'.": centred.T @ centred / (len(scores) - 1),
        "divide by N, not by N - 1: no mean was estimated.": scores.T @ scores / (len(scores) - 1),
        "only the squares are there; the products of different components belong to F too.": (
            torch.diag((scores**2).mean(0))
        ),
    }
    name_the_slip(answer, slips, 1e-5)
    if tuple(getattr(answer, "shape", ())) == (len(scores), len(scores)):
        raise Wrong("your matrix is [N, N]: sum over the samples, so that [P, P] remains.")
    same_shape(answer, scores.T @ scores, "F")
    raise Wrong("the numbers differ from the mean over samples of the outer products s s'.")


@exercise("Natural-gradient step")
def check_natural_step(natural_step: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """`natural_step(gradient [P], fisher [P, P], delta, damping) -> [P]`, and its usual slips."""
    for delta, damping in ((0.02, 0.5), (0.3, 1.0), (1.5, 0.2)):
        gradient, fisher = torch.randn(4, dtype=torch.float64), _positive_matrix(4)
        answer = solved(natural_step(gradient.clone(), fisher.clone(), delta, damping))
        same_shape(answer, gradient, "the step")
        if not close(answer, _step(gradient, fisher, delta, damping)):
            _explain_step(answer, gradient, fisher, delta, damping)


def _step(gradient: Tensor, fisher: Tensor, delta: float, damping: float) -> Tensor:
    x = _solve(fisher, damping, gradient)
    step: Tensor = (2 * delta / (gradient @ x)).sqrt() * x
    return step


def _solve(fisher: Tensor, damping: float, gradient: Tensor) -> Tensor:
    eye = torch.eye(len(fisher), dtype=fisher.dtype)
    solution: Tensor = torch.linalg.solve(fisher + damping * eye, gradient)
    return solution


def _explain_step(
    answer: Any, gradient: Tensor, fisher: Tensor, delta: float, damping: float
) -> None:
    right = _step(gradient, fisher, delta, damping)
    x = _solve(fisher, damping, gradient)
    damped = fisher + damping * torch.eye(len(fisher), dtype=fisher.dtype)
    plain = (2 * delta / (gradient @ damped @ gradient)).sqrt() * gradient
    slips = {
        "the sign is turned round: we climb, so the step must agree with the gradient.": -right,
        "the damping is missing: solve with fisher + damping * I.": (
            _step(gradient, fisher, delta, 0.0)
        ),
        "the direction is right but the step is not scaled to the trust region.": x,
        "the factor 2 is missing: ½ Δ'FΔ = δ needs sqrt(2 δ / g'x).": right / 2**0.5,
        "the square root is missing: the scale is sqrt(2 δ / g'x).": 2 * delta / (gradient @ x) * x,
        "this is the plain gradient, scaled; solve (F + damping I) x = g first.": plain,
        "you multiplied by F; the natural gradient needs its inverse.": (
            _parallel(answer, damped @ gradient)
        ),
        "the scale is measured with ‖x‖; measure it with g'x, which is x'Fx.": (
            (2 * delta) ** 0.5 / x.norm() * x
        ),
        "you measured the step with the undamped F; with damping it is x'(F + damping I)x = g'x.": (
            (2 * delta / (x @ fisher @ x)).sqrt() * x
        ),
        "damping was added to every entry; it belongs on the diagonal only.": (
            _parallel(answer, torch.linalg.lstsq(fisher + damping, gradient).solution)
        ),
    }
    name_the_slip(answer, slips, 1e-5)
    raise Wrong("the step should be sqrt(2 δ / g'x) x with (F + damping I) x = g.")


def _parallel(answer: Any, direction: Tensor) -> Tensor:
    """`direction`, as long as the answer: equal to it if it points the same way."""
    length = float(torch.as_tensor(answer).detach().double().norm())
    return direction * (length / float(direction.norm()))


@exercise("Conjugate gradient")
def check_conjugate_gradient(
    solve_by_cg: Callable[[Callable[[Tensor], Tensor], Tensor, int], Tensor],
) -> None:
    """`solve_by_cg(operator, target [P], iterations) -> [P]`: iterates, exactness, manners."""
    for iterations in (2, 3, 6):
        matrix, target = _positive_matrix(6), torch.randn(6, dtype=torch.float64)
        given = target.clone()
        calls: list[Tensor] = []

        def operator(
            vector: Tensor, matrix: Tensor = matrix, calls: list[Tensor] = calls
        ) -> Tensor:
            calls.append(vector)
            return matrix @ vector

        answer = solved(solve_by_cg(operator, given, iterations))
        if not torch.equal(given, target):
            raise Wrong("your function changes `target` itself; start from target.clone().")
        same_shape(answer, target, "the solution")
        if not close(answer, _cg(matrix, target, iterations), 1e-5):
            _explain_cg(answer, matrix, target, iterations)
        if len(calls) > iterations + 1:  # one more, who asks for the first residual
            raise Wrong(
                f"the solution is right, but {iterations} iterations called `operator` "
                f"{len(calls)} times: keep its result, one call an iteration is enough."
            )
    _must_survive_the_end(solve_by_cg)


def _cg(matrix: Tensor, target: Tensor, iterations: int) -> Tensor:
    return conjugate_gradient(matrix.mv, target, iterations)


def _must_survive_the_end(solve_by_cg: Callable[..., Tensor]) -> None:
    """More iterations than needed must not turn the solution into NaN."""
    target = torch.tensor([1.0, 0.0], dtype=torch.float64)
    answer = solve_by_cg(lambda v: 2.0 * v, target.clone(), 5)
    if not close(torch.nan_to_num(answer, nan=9.0), target / 2):
        raise Wrong(
            "after the solution is reached yours divides zero by zero: stop when r'r is "
            "(nearly) zero."
        )


def _explain_cg(answer: Any, matrix: Tensor, target: Tensor, iterations: int) -> None:
    slips = {
        "this is steepest descent: the direction must keep β times the old direction.": (
            _variant(matrix, target, iterations, lambda new, old: 0.0 * new)
        ),
        "β is upside down: new r'r over old r'r.": (
            _variant(matrix, target, iterations, lambda new, old: old / new)
        ),
        "β compares the residual with itself: keep the old r'r before you update r.": (
            _variant(matrix, target, iterations, lambda new, old: torch.ones_like(new))
        ),
        "you return what is left over (the residual), not the solution.": (
            target - matrix @ _cg(matrix, target, iterations)
        ),
        "one iteration is missing: the loop should run `iterations` times.": (
            _cg(matrix, target, iterations - 1)
        ),
        "one iteration is too many: the loop should run `iterations` times.": (
            _cg(matrix, target, iterations + 1)
        ),
        "the sign is turned round.": -_cg(matrix, target, iterations),
    }
    name_the_slip(answer, slips, 1e-5)
    if iterations < len(target) and close(answer, torch.linalg.solve(matrix, target)):
        raise Wrong("this is the exact solution; make exactly `iterations` steps of the algorithm.")
    raise Wrong(f"after {iterations} iterations your x is not that of conjugate gradient.")


def _variant(
    matrix: Tensor, target: Tensor, iterations: int, beta: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Conjugate gradient with another rule for beta(new r'r, old r'r)."""
    x, r = torch.zeros_like(target), target.clone()
    d, squared = r.clone(), r @ r
    for _ in range(iterations):
        image = matrix @ d
        stride = squared / (d @ image)
        x, r = x + stride * d, r - stride * image
        old, squared = squared, r @ r
        d = r + beta(squared, old) * d
    return x
