"""Explorers of notebook 04: the cost limit, the price as a ruler, dual ascent."""

from functools import cache

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from kfcpo_lib.cmdp import CMDP, FLOODED_TOWN, Array, Solution, front_corners, grid_world, solve
from kfcpo_lib.plots.cmdps import draw_ascent, draw_limit, draw_ruler
from kfcpo_lib.widgets.controls import slider
from kfcpo_lib.widgets.explorer import Explorer

DISCOUNT = 0.97


@cache
def flooded_town(slip: float = 0.1) -> tuple[CMDP, list[Solution]]:
    """The grid world of notebook 04 and the corners of its Pareto front, computed once."""
    town = grid_world(FLOODED_TOWN, discount=DISCOUNT, slip=slip)
    return town, front_corners(town)


def draw_front_at(cost_limit: float, slip: float = 0.1) -> Figure:
    """The front, the limit on it, and the best policy inside the limit."""
    town, corners = flooded_town(slip)
    return draw_limit(FLOODED_TOWN, town, corners, cost_limit, solve(town, cost_limit))


def limit_explorer() -> Explorer:
    """The cost limit along the Pareto front, and the policy that belongs to it."""
    return Explorer(
        draw_front_at,
        "Left: the Pareto front and the limit. Right: the best policy inside the limit.",
        cost_limit=slider("cost limit C", 2.0, 0.0, 6.0, 0.05),
        slip=slider("slip", 0.1, 0.0, 0.4, 0.1),
    )


def draw_ruler_at(multiplier: float, cost_limit: float) -> Figure:
    """A price as a ruler on the front, and its point on the dual function."""
    return draw_ruler(flooded_town()[1], cost_limit, multiplier)


def ruler_explorer() -> Explorer:
    """The multiplier tilts a ruler on the front; the dual function is where it crosses C."""
    return Explorer(
        draw_ruler_at,
        "Left: a ruler laid on the front. Right: the dual function, the highest of all lines.",
        multiplier=slider("multiplier μ", 0.05, 0.0, 0.14, 0.002),
        cost_limit=slider("cost limit C", 2.0, 0.25, 5.0, 0.25),
    )


def ascend(cost_limit: float, learning_rate: float, iterations: int) -> tuple[Array, Array]:
    """Dual ascent on the town: cost and multiplier of each iteration, [iterations] each.

    The best answer to a price is always a corner of the front, so it is looked up there.
    """
    corners = flooded_town()[1]
    costs = np.array([corner.expected_cost for corner in corners])
    returns = np.array([corner.expected_return for corner in corners])
    multiplier, trace = 0.0, []
    for _ in range(iterations):
        cost = costs[np.argmax(returns - multiplier * costs)]
        trace.append((cost, multiplier))
        multiplier = max(0.0, multiplier + learning_rate * (cost - cost_limit))
    return np.array(trace)[:, 0], np.array(trace)[:, 1]


def draw_ascent_at(log10_rate: float, cost_limit: float, iterations: int) -> Figure:
    """Dual ascent with a learning rate of 10^log10_rate."""
    costs, multipliers = ascend(cost_limit, 10.0**log10_rate, iterations)
    price = solve(flooded_town()[0], cost_limit).multiplier
    return draw_ascent(costs, multipliers, cost_limit, price)


def ascent_explorer() -> Explorer:
    """Learning rate, limit and patience against the hunt of the multiplier."""
    return Explorer(
        draw_ascent_at,
        "Left: the cost of each answer and the mean so far. Right: the multiplier.",
        log10_rate=slider("log₁₀ learning rate", -2.25, -4.0, -1.0, 0.25),
        cost_limit=slider("cost limit C", 2.0, 0.25, 5.0, 0.25),
        iterations=ipywidgets.IntSlider(100, min=20, max=400, step=20, description="iterations"),
    )
