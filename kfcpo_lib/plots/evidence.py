"""Figures of results: curves of several seeds, return against cost, intervals; notebook 09."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from kfcpo_lib.evidence import (
    Interval,
    bootstrap_interval,
    improvement,
    mean,
    mean_interval,
    standing,
)
from kfcpo_lib.plots.learning import moving_average
from kfcpo_lib.plots.style import (
    COMMITTED,
    COST,
    FONT_SIZE,
    LIMIT,
    NEUTRAL,
    REWARD,
    fix_margins,
    label,
    legend,
    new_figure,
)

Array = NDArray[np.float64]
PANELS = 4
"""Panels in a row, at most."""
MARKS: dict[str, dict[str, Any]] = {
    "inside": {"color": COMMITTED, "marker": "o"},
    "above": {"color": COST, "marker": "X"},
    "open": {"color": NEUTRAL, "marker": "D", "markerfacecolor": "white"},
}
"""How a rule is drawn: where the interval of its cost lies."""
CORNERS = ((8, 8), (8, -18), (-8, 8), (-8, -18))
"""Where a rule's name may begin or end, points from its mark; the first is preferred."""


FEWEST_SEEDS = 3
"""From which an interval is drawn: two may agree by chance, and mostly give one that fills all."""


class Point(NamedTuple):
    """One rule's score with its interval; NaN ends where there are too few seeds for one."""

    value: float
    interval: Interval


def point_of(scores: Array) -> Point:
    """The mean of [seeds] scores, with Student's 95 % interval if they are `FEWEST_SEEDS`."""
    enough = len(scores) >= FEWEST_SEEDS
    return Point(float(scores.mean()), mean_interval(scores if enough else scores[:1]))


def draw_learning(runs: Mapping[str, Sequence[pd.DataFrame]], window: int = 5) -> Figure:
    """Cost and return of every rule while it learns, a panel a rule, all on the same scales.

    Args:
        runs: rule -> the `studies.learning_record` of its seeds; the line is their mean, the band
            reaches from the lowest to the highest seed.
        window: rows averaged in a line.
    """
    rows = -(-len(runs) // PANELS)
    figure, grid = new_figure(rows, -(-len(runs) // rows), width=4.2, height=3.4)
    panels = list(np.atleast_1d(grid).flat)
    for axes, (name, records) in zip(panels, runs.items(), strict=False):
        axes_return = axes.twinx()
        _band(axes, records, "episodic_cost_mean", window, COST, "-")
        _band(axes_return, records, "return_mean", window, REWARD, "--")
        axes.axhline(records[0]["cost_limit"].iloc[0], color=LIMIT, linewidth=2)
        seeds = f"{len(records)} seed{'s' if len(records) > 1 else ''}"
        label(axes, f"{name} ({seeds})", "million steps", "cost (solid)")
        axes_return.set_ylabel("return (dashed)", fontsize=FONT_SIZE, color=REWARD)
        axes.set_ylim(0, 90)
        axes_return.set_ylim(-5, 30)
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    return figure


def _band(
    axes: Axes, records: Sequence[pd.DataFrame], column: str, window: int, colour: str, line: str
) -> None:
    length = min(len(record) for record in records)
    curves = [moving_average(record[column].to_numpy(float)[:length], window) for record in records]
    steps = records[0]["env_steps"].to_numpy()[:length] / 1e6
    axes.plot(steps, np.mean(curves, axis=0), color=colour, linestyle=line, linewidth=2.2)
    axes.fill_between(
        steps, np.min(curves, axis=0), np.max(curves, axis=0), color=colour, alpha=0.2
    )


def draw_pareto(points: Mapping[str, tuple[Point, Point]], limit: float) -> Figure:
    """Return against cost: up and to the left is better, right of the limit is not allowed.

    The mark says where the cost's interval lies: inside the limit, above it, or on both sides.

    Args:
        points: rule -> its return and its cost.
        limit: the cost limit.
    """
    title = "Up is better, right of the line is not allowed"
    return _panels_against_cost({title: points}, limit, width=8.5, height=5.0)


def draw_tasks(tasks: Mapping[str, Mapping[str, tuple[Point, Point]]], limit: float) -> Figure:
    """`draw_pareto` for several tasks (name -> points), side by side, each on its own axes."""
    return _panels_against_cost(tasks, limit, width=4.6, height=4.4)


def _panels_against_cost(
    points_of: Mapping[str, Mapping[str, tuple[Point, Point]]],
    limit: float,
    width: float,
    height: float,
) -> Figure:
    """A panel a title, of this size."""
    figure, grid = new_figure(1, len(points_of), width=width, height=height)
    panels = np.atleast_1d(grid)
    for axes, (title, points) in zip(panels, points_of.items(), strict=True):
        _return_against_cost(axes, points, limit)
        label(axes, title, "cost", "return")
    _explain_marks(figure, points_of.values(), limit)
    figure.draw_without_rendering()  # from now on the panels have their places
    for axes, points in zip(panels, points_of.values(), strict=True):
        _write_names(axes, points)
    return figure


def _explain_marks(
    figure: Figure, panels: Collection[Mapping[str, tuple[Point, Point]]], limit: float
) -> None:
    """A legend below the panels, of the marks that are in them."""
    used = {standing(cost.interval, limit) for points in panels for _, cost in points.values()}
    handles = [
        Line2D([], [], linestyle="", markersize=10, **mark, label=words)
        for words, mark in MARKS.items()
        if words in used
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        fontsize=FONT_SIZE - 1,
        title="interval of the cost",
        title_fontsize=FONT_SIZE - 1,
    )


def _return_against_cost(
    axes: Axes, points: Mapping[str, tuple[Point, Point]], limit: float
) -> None:
    for gain, cost in points.values():
        axes.errorbar(
            cost.value,
            gain.value,
            xerr=_arms(cost),
            yerr=_arms(gain),
            markersize=10,
            capsize=4,
            **MARKS[standing(cost.interval, limit)],
        )
    axes.margins(x=0.15, y=0.15)
    left, right = axes.get_xlim()
    left, right = max(0.0, min(left, 0.8 * limit)), max(right, 1.2 * limit)  # no cost is negative
    axes.axvline(limit, color=LIMIT, linewidth=2)
    axes.axvspan(limit, right, color=COST, alpha=0.08)
    axes.set_xlim(left, right)


def _write_names(axes: Axes, points: Mapping[str, tuple[Point, Point]]) -> None:
    """Each rule's name at that corner of its mark where it meets fewest other marks and names."""
    panel = axes.get_window_extent().padded(2.0)
    scale = axes.figure.dpi / 72
    spots = {
        name: (axes.transData.transform((cost.value, gain.value)), (cost.value, gain.value))
        for name, (gain, cost) in points.items()
    }
    taken = [Bbox.from_extents(x - 14, y - 14, x + 14, y + 14) for (x, y), _ in spots.values()]
    for name, ((x, y), place) in sorted(spots.items(), key=lambda spot: -spot[1][1][1]):
        size = scale * 0.6 * FONT_SIZE * len(name), scale * 1.4 * FONT_SIZE
        boxes = [
            Bbox.from_bounds(x + scale * dx - (dx < 0) * size[0], y + scale * dy - 4, *size)
            for dx, dy in CORNERS
        ]
        met = [
            box.count_overlaps(taken) + 2 * (not panel.containsx(box.x1) or box.x0 < panel.x0)
            for box in boxes
        ]
        best = int(np.argmin(met))
        taken.append(boxes[best])
        axes.annotate(
            name,
            place,
            xytext=CORNERS[best],
            textcoords="offset points",
            horizontalalignment="left" if CORNERS[best][0] > 0 else "right",
            fontsize=FONT_SIZE - 1,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def draw_intervals(points: Mapping[str, Point], title: str, unit: str, line: float) -> Figure:
    """Scores with their intervals, one under the other, against a line that means something."""
    figure, axes = new_figure(width=8.5, height=1.2 + 0.55 * len(points))
    for row, point in enumerate(points.values()):
        axes.errorbar(
            point.value, row, xerr=_arms(point), fmt="o", color=REWARD, markersize=9, capsize=5
        )
    axes.set_yticks(range(len(points)), list(points))
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.axvline(line, color=LIMIT, linewidth=2)
    label(axes, title, unit, "")
    return figure


def _arms(point: Point) -> Array | None:
    """[2, 1] lengths of the interval's arms; None without an interval."""
    if not np.isfinite(point.interval).all():
        return None
    low, high = point.interval
    return np.maximum([[point.value - low], [high - point.value]], 0.0)


def draw_misleading(returns: Mapping[str, float]) -> Figure:
    """Exercise 4: a figure that misleads."""
    figure, axes = new_figure(width=7.5, height=4.0)
    lowest, highest = min(returns.values()), max(returns.values())
    colours = [COMMITTED] + [NEUTRAL] * (len(returns) - 1)
    axes.bar(list(returns), list(returns.values()), color=colours)
    axes.set_ylim(lowest - 0.2 * abs(lowest), highest + 0.02 * abs(highest))
    axes.tick_params(axis="x", rotation=30 if len(returns) > 5 else 0)
    label(axes, "The best rule at a glance (seed 0, each where it looked best)", "", "return")
    return figure


def draw_luck(seeds: int, gap: float, spread: float) -> Figure:
    """Twelve repetitions of one comparison of two rules, each with its own seeds.

    Args:
        seeds: of either rule.
        gap: true difference of the two mean returns.
        spread: standard deviation of a seed's return.
    """
    rng = np.random.default_rng(0)
    figure, (left, right) = new_figure(1, 2, width=6.4, height=4.2)
    for repetition in range(12):
        theirs, ours = (rng.normal(10 + shift, spread, seeds) for shift in (0.0, gap))
        for offset, scores, colour in ((-0.15, theirs, NEUTRAL), (0.15, ours, REWARD)):
            low, high = bootstrap_interval([scores], mean, resamples=300)
            place = repetition + offset
            left.plot([place, place], [low, high], color=colour, linewidth=3)
            left.plot(place, scores.mean(), "o" if offset > 0 else "s", color=colour, markersize=6)
        chance = improvement([ours], [theirs])
        right.plot(repetition, chance, "o", color=REWARD, markersize=8)
    right.axhline(0.5, color=LIMIT, linewidth=2, label="no difference")
    left.plot([], [], "s-", color=NEUTRAL, label="theirs")
    left.plot([], [], "o-", color=REWARD, label=f"ours, truly {gap:g} better")
    label(left, f"{seeds} seeds: mean and 95 % interval", "repetition", "return")
    label(right, "Probability of improvement", "repetition", "P(ours > theirs)")
    right.set(ylim=(0.0, 1.05), yticks=np.linspace(0.0, 1.0, 6))
    for axes in (left, right):
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.2 * (high - low), high)  # room for the legend
        legend(axes, loc="lower center", ncols=2)
    return fix_margins(figure)
