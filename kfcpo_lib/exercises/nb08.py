"""Checks of notebook 08: how soon a turned knob works, and whether a policy is inside its limit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.evidence import mean_interval, standing
from kfcpo_lib.exercises.checking import Wrong, close, exercise, solved

Array = NDArray[np.float64]


def steps_until_inside(
    env_steps: Array, episodic_cost: Array, turned_at: float, limit: float
) -> float:
    """Environment steps from the turn of a knob to the first later epoch within the limit.

    Args:
        env_steps: [epochs] step at which each epoch ended.
        episodic_cost: [epochs] the cost then; NaN before the first episode has ended.
        turned_at: step at which the knob was turned.
        limit: cost that counts as reached.

    Returns:
        Infinity if it never was.
    """
    reached = (env_steps > turned_at) & (episodic_cost <= limit)
    return float(env_steps[reached][0] - turned_at) if reached.any() else math.inf


def verdict(costs: Array, cost_limit: float) -> tuple[float, float, str]:
    """The 95 % interval of the mean cost, and where the policy stands.

    Args:
        costs: [episodes] of fresh episodes, at least two.
        cost_limit: C.

    Returns:
        Both ends of Student's t interval; and `inside` or `above` if all of it is, else `open`.
    """
    interval = mean_interval(costs)
    return *interval, standing(interval, cost_limit)


@exercise("steps until inside")
def check_steps_until_inside(answer: Callable[..., Any]) -> None:
    """Fresh curves; the cost is inside some time after the turn, maybe before, or never."""
    random = np.random.default_rng()
    for _ in range(50):
        steps = random.uniform(1_000, 19_000) + 20_000.0 * np.arange(30)
        limit = random.uniform(10, 30)
        cost = limit + random.normal(6, 6, 30)
        cost[:3], cost[-1] = np.nan, limit - 1.0  # never inside is the last case alone
        turned = steps[random.integers(3, 25)]
        _judge_steps(answer, steps, cost, turned, limit)
    _judge_steps(answer, steps, np.full(30, 99.0), turned, limit)


def _judge_steps(
    answer: Callable[..., Any], steps: Array, cost: Array, turned: float, limit: float
) -> None:
    wanted = steps_until_inside(steps, cost, turned, limit)
    found = float(solved(answer(steps.copy(), cost.copy(), turned, limit)))
    if close(found, wanted) or found == wanted:
        return
    if math.isinf(wanted):
        raise Wrong("where the cost never comes inside, the answer is infinity (math.inf).")
    if close(found, wanted + turned):
        raise Wrong("that is the step at which it is inside; asked is how long after the turn.")
    at_turn = steps_until_inside(steps, cost, turned - 1.0, limit)
    if close(found, at_turn - 1.0) or found <= 0:
        raise Wrong(
            "an epoch that ended at the turn, or before it, knew nothing of the turn: only later "
            "ones count."
        )
    lasting = (steps > turned) & (cost > limit)
    after_last = steps[lasting][-1] - turned if lasting.any() else math.nan
    if found > wanted and found >= after_last:
        raise Wrong("asked is the first epoch within the limit, not the last one above it.")
    raise Wrong(f"the cost is inside {wanted:,.0f} steps after the turn, you say {found:,.0f}.")


@exercise("the verdict")
def check_verdict(answer: Callable[..., Any]) -> None:
    """Fresh costs, few and many, skewed as real ones are."""
    random = np.random.default_rng()
    for episodes in (3, 5, 10, 40, 100):
        for _ in range(10):
            costs = random.gamma(1.0, random.uniform(15, 35), episodes)
            _judge_verdict(answer, costs, 25.0)
    for mean in (5.0, 100.0):  # where the interval does decide
        _judge_verdict(answer, random.gamma(1.0, mean, 200), 25.0)
    at_limit = np.full(4, 25.0)
    _judge_verdict(answer, at_limit, 25.0)


def _judge_verdict(answer: Callable[..., Any], costs: Array, limit: float) -> None:
    low, high, word = verdict(costs, limit)
    given = solved(answer(costs.copy(), limit))
    if not isinstance(given, tuple | list) or len(given) != 3:
        raise Wrong('return three things: low, high and "inside", "above" or "open".')
    ends = np.array([given[0], given[1]], dtype=float)
    if not close(ends, np.array([low, high])):
        raise Wrong(_what_is_wrong_with(ends, costs))
    said = str(given[2])
    if said == word:
        return
    if said not in ("inside", "above", "open"):
        raise Wrong(f'the third is "inside", "above" or "open", not {said!r}.')
    if said == ("inside" if costs.mean() <= limit else "above"):
        raise Wrong("an interval that contains the limit decides nothing: it is open.")
    if said == ("inside" if np.mean(costs <= limit) >= 0.5 else "above"):
        raise Wrong("the limit is on the mean cost, not on the share of episodes within it.")
    raise Wrong(f"from {low:.1f} to {high:.1f} at a limit of {limit:g} is {word}.")


def _what_is_wrong_with(ends: Array, costs: Array) -> str:
    n, mean = len(costs), costs.mean()
    half, spread = float(ends[1] - mean), float(costs.std(ddof=1))
    wanted = mean_interval(costs)[1] - mean
    if not close(ends.mean(), mean):
        return f"the interval lies around the mean, {mean:.2f}; the middle of yours is not there."
    if close(half, 1.96 * spread / math.sqrt(n), 1e-3):
        return f"1.96 is for many episodes; with {n} take Student's t with {n - 1} degrees."
    if close(half, wanted * math.sqrt(n)):
        return "that is the spread of single episodes; the mean's is smaller, by sqrt(n)."
    if close(half, wanted * math.sqrt((n - 1) / n)):
        return "the standard deviation of a sample divides by n - 1: std(ddof=1)."
    return f"half the width should be {wanted:.3f} here, yours is {half:.3f}."
