"""Checks of notebook 09: CPO's step, the interquartile mean, a Pareto plot, a misleading figure."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.algorithms import cpo
from kfcpo_lib.algorithms.second_order import Scalars
from kfcpo_lib.evidence import interquartile_mean
from kfcpo_lib.exercises.checking import Wrong, close, exercise, solved

Array = NDArray[np.float64]
CpoStep = Callable[[float, float, float, float, float], Any]

FLAWS = {
    "a": "the axis does not begin at zero, so that a small difference looks large",
    "b": "the cost is not shown: the best return may belong to a rule that breaks the limit",
    "c": "one seed a rule, and no interval",
    "d": "the colours are not those of the other figures",
    "e": "the rules had different numbers of steps",
    "f": "the best moment of each training is shown, not its end",
    "g": "the bars are sorted",
}
"""What may be wrong with the figure of exercise 4."""
REAL_FLAWS = {"a", "b", "c", "e", "f"}


def reachable_problems(rng: np.random.Generator, count: int) -> list[Scalars]:
    """Random scalars (q, r, s, c, delta) whose safe side the trust region reaches."""
    problems: list[Scalars] = []
    while len(problems) < count:
        g, b = rng.standard_normal((2, 3))
        delta = float(rng.uniform(0.005, 0.05))
        c = float(rng.uniform(-1.2, 0.95) * np.sqrt(2 * delta * (b @ b)))
        problems.append(Scalars(float(g @ g), float(g @ b), float(b @ b), c, delta))
    return problems


@exercise("CPO's step")
def check_cpo(student: CpoStep) -> None:
    """student(q, r, s, c, delta) -> (alpha, beta) of the best step that ends on the safe side."""
    mistakes: Counter[str] = Counter()
    for problem in reachable_problems(np.random.default_rng(), 400):
        answer = np.asarray(solved(student(*problem)), dtype=float)
        right = np.array(cpo.coefficients(problem))
        if answer.shape != (2,):
            raise Wrong("return two numbers: alpha and beta.")
        if not close(answer, right, 1e-5):
            mistakes[_cpo_mistake(answer, right, problem)] += 1
    if mistakes:
        [(commonest, _)] = mistakes.most_common(1)
        raise Wrong(commonest)


def _cpo_mistake(answer: Array, right: Array, problem: Scalars) -> str:
    q, r, s, c, delta = problem
    alpha, beta = answer
    if c + alpha * r - beta * s > 1e-7:
        return "the step ends on the unsafe side: c + alpha r - beta s > 0. Look at the sign of r."
    if alpha**2 * q - 2 * alpha * beta * r + beta**2 * s > 2 * delta * (1 + 1e-6):
        return "the step leaves the trust region: its squared length is above 2 delta."
    if right[1] == 0 and beta != 0:
        return "TRPO's step is safe here already: then beta should be 0."
    return "safe, and inside the trust region, but not the best: another step brings more reward."


@exercise("interquartile mean and its interval")
def check_iqm(student: Callable[[Array, int, np.random.Generator], Any]) -> None:
    """student(scores [n], resamples, rng) -> (iqm, low, high), the 95 % percentile interval."""
    for seeds in (9, 14, 20):
        scores = np.random.default_rng().exponential(size=seeds) * 10
        answer = solved(student(scores.copy(), 4_000, np.random.default_rng(0)))
        if np.shape(answer) != (3,):
            raise Wrong("return three numbers: the interquartile mean, low, high.")
        _judge_iqm(float(answer[0]), scores)
        _judge_interval(float(answer[1]), float(answer[2]), scores)


def _judge_iqm(value: float, scores: Array) -> None:
    middle = np.sort(scores)[len(scores) // 4 : len(scores) - len(scores) // 4]
    if close(value, middle.mean()):
        return
    usual = {
        "that is the plain mean: cut a quarter of the scores off at either end.": scores.mean(),
        "that is the median: average the middle half, not its centre.": np.median(scores),
        "cut off at both ends, not only the lowest scores.": np.sort(scores)[
            len(scores) // 4 :
        ].mean(),
        "sort the scores first: the quarters to cut off are the lowest and the highest.": scores[
            len(scores) // 4 : len(scores) - len(scores) // 4
        ].mean(),
    }
    for sentence, mistake in usual.items():
        if close(value, mistake):
            raise Wrong(sentence)
    raise Wrong("the first number should be the mean of the middle half of the scores.")


def _judge_interval(low: float, high: float, scores: Array) -> None:
    rng = np.random.default_rng(1)
    draws = interquartile_mean(rng.choice(scores, (4_000, len(scores))), axis=1)
    right_low, right_high = np.quantile(draws, [0.025, 0.975])
    width = max(right_high - right_low, 1e-9)
    if abs(low - right_low) < 0.15 * width and abs(high - right_high) < 0.15 * width:
        return
    if high - low < 1e-9:
        raise Wrong("an interval of no width: draw with replacement, or every sample is the same.")
    if high - low > 1.6 * width:
        raise Wrong("far too wide: take quantiles of the resampled means, not of the scores.")
    if high - low < 0.9 * width:
        raise Wrong(
            "too narrow: resamples have as many scores as there are; quantiles 0.025, 0.975."
        )
    raise Wrong("the interval lies elsewhere: quantiles 0.025 and 0.975 of the resampled means.")


@exercise("reading a Pareto plot")
def check_front(student: Callable[[Array, Array, float], Any]) -> None:
    """student(returns [n], costs [n], limit) -> (indices nobody dominates, best index or None)."""
    for safe in (True, True, False):
        rng = np.random.default_rng()
        returns, costs = rng.normal(10, 5, 8), rng.uniform(10, 40, 8)
        returns[:2] = returns.max() + 1  # one of these is dominated by its equal in return alone
        costs[2:4] = costs.min() - 1  # ... and one of these by its equal in cost
        limit = float(np.sort(costs)[3] + 0.01) if safe else float(costs.min() - 1)
        answer = solved(student(returns.copy(), costs.copy(), limit))
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Wrong("return two things: the indices of the front, and the best index or None.")
        _judge_front({int(i) for i in answer[0]}, returns, costs)
        _judge_best(answer[1], returns, costs, limit)


def undominated(returns: Array, costs: Array) -> set[int]:
    """Indices of the points that no other equals in both numbers and beats in one."""
    better = (returns[:, None] >= returns) & (costs[:, None] <= costs)
    better &= (returns[:, None] > returns) | (costs[:, None] < costs)
    return {int(i) for i in np.flatnonzero(~better.any(axis=0))}


def _judge_front(answer: set[int], returns: Array, costs: Array) -> None:
    right = undominated(returns, costs)
    if answer == right:
        return
    if answer == undominated(returns, -costs):
        raise Wrong("less cost is better: a point is dominated by more return at *less* cost.")
    if answer == set(range(len(returns))) - right:
        raise Wrong("those are the dominated ones: the front is made of the others.")
    if answer - right:
        raise Wrong(
            "one of yours is dominated: another rule has at least its return at no more cost, and "
            "is better in one of the two."
        )
    raise Wrong(
        "one is missing: a point belongs to the front unless another is as good in both numbers "
        "and better in one."
    )


def _judge_best(answer: Any, returns: Array, costs: Array, limit: float) -> None:
    safe = np.flatnonzero(costs <= limit)
    if not len(safe):
        if answer is not None:
            raise Wrong("no rule keeps the limit there: the best one is then None.")
        return
    best = int(safe[np.argmax(returns[safe])])
    if answer is None:
        raise Wrong("a rule keeps the limit there, so there is a best one.")
    if int(answer) in safe and returns[int(answer)] == returns[best]:
        return
    if int(answer) == int(np.argmax(returns)):
        raise Wrong("that one has the highest return of all, but it breaks the limit.")
    if int(answer) == int(np.argmin(costs)):
        raise Wrong("that one is the safest; among those within the limit, return decides.")
    raise Wrong("among the rules within the limit, take the one with the highest return.")


@exercise("the flaws of a figure")
def check_flaws(student: Callable[[], Iterable[str]]) -> None:
    """student() -> the letters of `FLAWS` that are real flaws of the figure."""
    given = set(solved(student()))
    if unknown := given - set(FLAWS):
        raise Wrong(f"there is no {', '.join(sorted(map(str, unknown)))} on the list.")
    if harmless := given - REAL_FLAWS:
        raise Wrong(f"{', '.join(sorted(harmless))} is a matter of taste, and misleads nobody.")
    if missing := REAL_FLAWS - given:
        raise Wrong(f"there is more to find: {len(missing)} of the real flaws not named yet.")
