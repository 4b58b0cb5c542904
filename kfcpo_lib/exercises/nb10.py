"""Checks of notebook 10: what a map's effects are, which setting to choose, and what it keeps."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.ablations import effects
from kfcpo_lib.exercises.checking import Wrong, close, exercise, same_shape, solved

Array = NDArray[np.float64]
Effects = Callable[[Array], Any]
Choice = Callable[[Array, Array, float], Any]
Promise = Callable[[Array], Any]


@exercise("main effects and interaction")
def check_effects(student: Effects) -> None:
    """student(table [rows, columns]) -> (row effects, column effects, interaction)."""
    for shape in ((3, 3), (3, 4), (2, 5)):
        table = np.random.default_rng().normal(3.0, 2.0, shape)
        answer = solved(student(table.copy()))
        if not isinstance(answer, tuple | list) or len(answer) != 3:
            raise Wrong("return three arrays: effects of the rows, of the columns, interaction.")
        _judge_effects([np.asarray(part, dtype=float) for part in answer], table)


def _judge_effects(answer: list[Array], table: Array) -> None:
    rows, columns, interaction = effects(table)
    if answer[0].shape == columns.shape != rows.shape or close(answer[0], columns):
        raise Wrong("rows and columns are swapped: a row's mean runs along axis 1.")
    names = ("the rows' effects", "the columns' effects", "the interaction")
    for part, right, name in zip(answer, (rows, columns, interaction), names, strict=True):
        same_shape(part, right, name)
    if close(answer[0], table.mean(axis=1)) or close(answer[1], table.mean(axis=0)):
        raise Wrong("those are means; an effect is how far a mean is from the mean of all.")
    if not close(answer[0], rows) or not close(answer[1], columns):
        raise Wrong("an effect is the mean of a row (or a column) minus the mean of all cells.")
    if close(answer[2], table - rows[:, None] - columns):
        raise Wrong("take the mean of all cells off, too: the interaction should sum to zero.")
    if close(answer[2], interaction - table.mean()):
        raise Wrong(
            "the mean of all cells was taken off twice: the effects are free of it already."
        )
    if not close(answer[2], interaction):
        raise Wrong("the interaction is what is left of each cell after the mean and both effects.")


NOISE = np.array([-1.5, -1.0, -0.6, -0.3, 0.0, 0.1, 0.3, 0.6, 1.0, 1.4])
"""Ten seeds around a setting's mean; the interval reaches about half as far to either side."""
TRAPS = {
    "greedy": "that one earns the most of all, but its cost is above the limit.",
    "risky": "its mean cost is inside, but its interval reaches above the limit: not surely safe.",
    "lucky": "its mean return is the highest of the safe ones, but its interval reaches far down: "
    "compare the lower ends.",
    "timid": "that one is the safest; among those surely inside, the return decides.",
}
CASES = {  # mean and spread of the return, mean and spread of the cost, in units of the limit
    "greedy": (9.0, 0.5, 1.6, 0.1),
    "risky": (8.0, 0.5, 0.97, 0.3),
    "lucky": (6.6, 5.0, 0.7, 0.1),
    "right": (6.0, 0.4, 0.8, 0.1),
    "timid": (2.0, 0.4, 0.3, 0.05),
}


@exercise("the setting to build on")
def check_choice(student: Choice) -> None:
    """student(returns [settings, seeds], costs [settings, seeds], limit) -> index or None."""
    for safe in (True, True, False):
        names, returns, costs, limit = settings_to_choose_from(safe)
        answer = student(returns.copy(), costs.copy(), limit)
        if not safe:
            if answer is not None:
                raise Wrong("no setting is surely inside the limit there: return None.")
            continue
        chosen = names[int(solved(answer))]
        if chosen != "right":
            raise Wrong(TRAPS[chosen])


def settings_to_choose_from(safe: bool) -> tuple[list[str], Array, Array, float]:
    """Names, returns and costs [settings, 10], and the limit; unless `safe`, none is inside."""
    rng = np.random.default_rng()
    limit = float(rng.uniform(8, 30))
    names = [str(name) for name in rng.permutation([*CASES])]
    names = names if safe else [name for name in names if name in ("greedy", "risky")]
    seeds = np.array([rng.permutation(NOISE) for _ in range(2 * len(names))])
    cases = np.array([CASES[name] for name in names])
    returns = cases[:, :1] + cases[:, 1:2] * seeds[: len(names)] + rng.uniform(-1, 1)
    costs = limit * (cases[:, 2:3] + cases[:, 3:] * seeds[len(names) :])
    return names, returns, costs, limit


@exercise("promised and kept")
def check_promise(student: Promise) -> None:
    """student(scores [settings, seeds]) -> (best, promised, kept): chosen on the first half."""
    for settings, seeds in ((9, 10), (5, 8), (20, 6)):
        scores = scores_to_choose_from(settings, seeds)
        answer = solved(student(scores.copy()))
        if np.shape(answer) != (3,):
            raise Wrong(
                "return three numbers: the best setting's index, its promise, what it keeps."
            )
        _judge_promise(int(answer[0]), float(answer[1]), float(answer[2]), scores)


def scores_to_choose_from(settings: int, seeds: int) -> Array:
    """[settings, seeds] scores: best on the first half, on the second, on all, and at one seed are
    four different settings."""
    rng, half = np.random.default_rng(), seeds // 2
    means, noise = rng.uniform(2, 5, (settings, 2)), rng.normal(0, 0.5, (settings, 2, half))
    first, second, both, spike = rng.permutation(settings)[:4]
    means[first], means[second], means[both], means[spike] = (9, 4), (4, 9.5), (8, 8), (6, 3)
    noise[spike, 0] = [4.0 * (half - 1)] + [-4.0] * (half - 1)
    noise -= noise.mean(axis=-1, keepdims=True)
    return (means[:, :, None] + noise).reshape(settings, seeds)


def _judge_promise(best: int, promised: float, kept: float, scores: Array) -> None:
    first, second = np.hsplit(scores, 2)
    right = int(first.mean(axis=1).argmax())
    if best != right:
        raise Wrong(_wrong_choice(best, first, second, scores))
    if not close(promised, first[best].mean()):
        raise Wrong("the promise is the chosen setting's mean over the seeds that chose it.")
    if close(kept, second[best].mean()):
        return
    usual = {
        "judge it by seeds that had no part in the choice: that is the promise again.": first[best],
        "all seeds together still contain those that chose it: take the second half alone.": scores[
            best
        ],
        "the best of the second half is another choice: keep the setting that was chosen.": second[
            second.mean(axis=1).argmax()
        ],
    }
    for sentence, mistake in usual.items():
        if close(kept, mistake.mean()):
            raise Wrong(sentence)
    raise Wrong("what it keeps is the chosen setting's mean over the second half of the seeds.")


def _wrong_choice(best: int, first: Array, second: Array, scores: Array) -> str:
    if best == int(second.mean(axis=1).argmax()):
        return "that one is best on the second half: choose on the first, the second judges."
    if best == int(scores.mean(axis=1).argmax()):
        return "you chose on all seeds: then none is left to judge the choice."
    if best == int(first.max(axis=1).argmax()):
        return "that one has the best single seed: compare the means."
    return "choose the setting with the highest mean over the first half of the seeds."
