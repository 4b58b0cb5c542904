"""Pictures of notebook 10: settings with their seeds, maps of two settings, the winner's curse."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kfcpo_lib.ablations import Arms, Kept, best_by_mean, best_inside, grid_of
from kfcpo_lib.evidence import mean_interval
from kfcpo_lib.plots.evidence import FEWEST_SEEDS, point_of
from kfcpo_lib.plots.learning import moving_average
from kfcpo_lib.plots.style import (
    COMMITTED,
    COST,
    FONT_SIZE,
    LIMIT,
    MARGIN,
    NEUTRAL,
    REWARD,
    ROLLBACK,
    SECOND,
    fix_margins,
    label,
    legend,
    new_figure,
)

Array = NDArray[np.float64]

MEASURES: dict[str, tuple[str, str]] = {
    "return": ("sampled_return", REWARD),
    "episodic cost": ("sampled_cost", COST),
    "epochs within the limit": ("epochs_within", COMMITTED),
    "cost while learning": ("training_cost", COST),
    "spread of the weight": ("weight_spread", MARGIN),
    "steps undone": ("rollback_share", ROLLBACK),
}
"""What a map can show: its column of the results, and its colour."""
ENDS = ("mean", "lower end", "upper end")
"""Of the 95 % interval of the mean over the seeds."""
SERIES = ((SECOND, "o-"), (NEUTRAL, "s--"), (COMMITTED, "D-."))
"""Colour, marker and line of the settings in one picture, at most so many."""


def draw_arms(arms: Arms, limit: float, title: str) -> Figure:
    """Return and cost of every setting: seeds as dots, the mean with its interval.

    Args:
        arms: setting -> its returns [seeds] and its costs [seeds]; the first is compared with.
        limit: of the cost.
        title: what was changed.
    """
    figure, (left, right) = new_figure(1, 2, width=5.8, height=1.4 + 0.55 * len(arms))
    for row, (returns, costs) in enumerate(arms.values()):
        _arm(left, row, returns, REWARD)
        _arm(right, row, costs, COST)
    first, _ = next(iter(arms.values()))
    left.axvline(first.mean(), color=NEUTRAL, linestyle=":", linewidth=2)
    right.axvline(limit, color=LIMIT, linewidth=2)
    for axes in (left, right):
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks(range(len(arms)), list(arms) if axes is left else [""] * len(arms))
    label(left, title, "return (dotted: the first row)", "")
    few = max(len(returns) for returns, _ in arms.values()) < FEWEST_SEEDS
    words = "seeds and mean" if few else "seeds, mean, 95 % interval"
    label(right, words, "episodic cost (line: the limit)", "")
    return figure


def _arm(axes: Axes, row: int, scores: Array, colour: str) -> None:
    shifts = np.linspace(-0.18, 0.18, len(scores)) if len(scores) > 1 else np.zeros(1)
    axes.plot(scores, row + shifts, ".", color=colour, alpha=0.45, markersize=9)
    low, high = point_of(scores).interval
    axes.plot([low, high], [row, row], color=colour, linewidth=4, solid_capstyle="butt")
    axes.plot(scores.mean(), row, "D", color="white", markeredgecolor=colour, markeredgewidth=2)


def draw_doses(
    doses: Sequence[float], panels: Mapping[str, Sequence[Array]], limit: float, name: str
) -> Figure:
    """What a setting's size does: a panel a measure, an interval a dose, seeds as dots.

    Args:
        doses: the setting's values.
        panels: measure (of `MEASURES`) -> scores [seeds] of each dose.
        limit: of the cost.
        name: the setting, for the axis.
    """
    figure, grid = new_figure(1, len(panels), width=4.0, height=3.9)
    places = np.arange(len(doses))
    for axes, (measure, scores) in zip(np.atleast_1d(grid), panels.items(), strict=True):
        colour = MEASURES[measure][1]
        for place, of_dose in zip(places, scores, strict=True):
            spread = place + np.linspace(-0.15, 0.15, len(of_dose))
            axes.plot(spread, of_dose, ".", color=colour, alpha=0.45, markersize=8)
            low, high = point_of(of_dose).interval
            axes.plot([place, place], [low, high], color=colour, linewidth=4)
        axes.plot(places, [s.mean() for s in scores], "D-", color=colour, markerfacecolor="white")
        if measure == "episodic cost":
            axes.axhline(limit, color=LIMIT, linewidth=2)
        axes.set_xticks(places, [f"{dose:g}" for dose in doses])
        label(axes, measure, name, "")
    return figure


def draw_curves(kept: Kept, settings: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return and cost of up to three settings while they learn: means and 95 % intervals.

    The intervals are Student's, at each point of the curve.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.0)
    for (name, chosen), (colour, line) in zip(settings.items(), SERIES, strict=False):
        for axes, column in ((left, "return_mean"), (right, "episodic_cost_mean")):
            curves = _curves(kept, chosen, column)
            steps, ends = curves.columns / 1e3, _ends_of(curves)
            axes.plot(
                steps, curves.mean(), line, color=colour, markevery=4, linewidth=2.4, label=name
            )
            axes.fill_between(steps, *ends.T, color=colour, alpha=0.15)
    right.axhline(kept.cost_limit, color=LIMIT, linewidth=2)
    label(left, "Return while learning", "thousand steps", "return")
    right.set_ylim(bottom=0)  # of two or three seeds an interval may reach below
    label(right, "Cost while learning", "thousand steps", "episodic cost")
    legend(left)
    return figure


def _curves(kept: Kept, chosen: Mapping[str, Any], column: str) -> pd.DataFrame:
    """A row a seed, a column an `env_steps`: one setting's learning curves."""
    runs = kept.rows(**chosen)["run"]
    table = kept.curves[kept.curves["run"].isin(runs)]
    return table.pivot_table(index="run", columns="env_steps", values=column)


def _ends_of(curves: pd.DataFrame) -> Array:
    """[points, 2] intervals over the seeds (rows) that have got there."""
    columns = (column.dropna().to_numpy() for _, column in curves.items())
    return np.array([point_of(scores).interval for scores in columns])


def draw_map(kept: Kept, measure: str, end: str, seeds: int) -> Figure:
    """A measure at every lambda and k, with the settings to choose by two rules.

    Args:
        kept: a sweep over `margin_lambda` and `steepness_k`, with at least one seed everywhere.
        measure: of `MEASURES`.
        end: of `ENDS`: what stands in a cell.
        seeds: at most so many count.
    """
    column, colour = MEASURES[measure]
    seeds = min(seeds, kept.common_seeds)
    values, lambdas, ks = _grid(kept, column, seeds)
    returns, costs = (
        _grid(kept, name, seeds)[0].reshape(-1, seeds)
        for name in ("sampled_return", "sampled_cost")
    )
    figure, axes = new_figure(width=8.6, height=4.8)
    _cells(axes, np.apply_along_axis(_end, -1, values, end), colour)
    looks: dict[str, Any] = {"fill": False, "hatch": "//", "edgecolor": COST}
    for index in np.flatnonzero(costs.mean(axis=1) > kept.cost_limit):
        corner = index % len(ks) - 0.5, index // len(ks) - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, **looks))
    means = best_by_mean(returns, costs, kept.cost_limit)
    intervals = best_inside(returns, costs, kept.cost_limit)
    _mark(axes, means, len(ks), "o", -0.33, "best by the means")
    _mark(axes, intervals, len(ks), "*", 0.33, "best by the intervals")
    axes.add_patch(Rectangle((0, 0), 0, 0, label="mean cost above C", **looks))
    axes.set_xticks(range(len(ks)), [f"{k:g}" for k in ks])
    axes.set_yticks(range(len(lambdas)), [f"{x:g}" for x in lambdas])
    label(
        axes,
        f"{kept.task}: {measure}, {end}, {seeds} seeds",
        "steepness k (per unit of cost)",
        "margin λ",
    )
    axes.grid(False)
    legend(axes, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return fix_margins(figure, left=0.1, right=0.64, bottom=0.15, top=0.9)


def draw_maps(maps: Mapping[str, Kept], task: str, measure: str, end: str, seeds: int) -> Figure:
    """`draw_map` of one of several tasks.

    Raises:
        ValueError: if the task's table lacks the measure.
    """
    if MEASURES[measure][0] not in maps[task].results:
        raise ValueError(f"{task} has no {measure}")
    return draw_map(maps[task], measure, end, seeds)


def _grid(kept: Kept, column: str, seeds: int) -> tuple[Array, list[Any], list[Any]]:
    values, lambdas, ks = grid_of(kept, column, "margin_lambda", "steepness_k")
    return values[:, :, :seeds], lambdas, ks


def _end(scores: Array, end: str) -> float:
    low, high = mean_interval(scores)
    return {"mean": float(scores.mean()), "lower end": low, "upper end": high}[end]


def _cells(axes: Axes, values: Array, colour: str) -> None:
    """Paler is less; the number stands in the cell."""
    shades = LinearSegmentedColormap.from_list("one colour", ["#ffffff", colour])
    spread = max(float(np.ptp(values)), 1e-9)
    axes.imshow(
        values,
        cmap=shades,
        aspect="auto",
        origin="lower",
        vmin=values.min() - 0.15 * spread,
        vmax=values.max() + 0.6 * spread,
    )
    for (row, place), value in np.ndenumerate(values):
        text = f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
        axes.text(place, row, text, ha="center", va="center", fontsize=FONT_SIZE + 1)


def _mark(
    axes: Axes, index: int | None, columns: int, marker: str, where: float, words: str
) -> None:
    place = (np.nan, np.nan) if index is None else (index % columns + where, index // columns + 0.3)
    words = words if index is not None else f"{words}: none"
    size = 15 if marker == "*" else 10
    axes.plot(*place, marker, color=LIMIT, markersize=size, label=words, linestyle="none")


def draw_lines(grid: Array, rows: Sequence[float], columns: Sequence[float], name: str) -> Figure:
    """A measure [rows, columns, seeds] over lambda, a line a k; not parallel: they interact."""
    figure, axes = new_figure(width=8.6, height=4.2)
    for i, (column, (colour, line)) in enumerate(zip(columns, SERIES, strict=False)):
        places = np.arange(len(rows)) + 0.06 * (i - 1)
        ends = np.array([point_of(cell).interval for cell in grid[:, i]])
        axes.vlines(places, ends[:, 0], ends[:, 1], color=colour, linewidth=3, alpha=0.6)
        axes.plot(places, grid[:, i].mean(axis=-1), line, color=colour, label=f"k = {column:g}")
    axes.set_xticks(range(len(rows)), [f"{row:g}" for row in rows])
    words = "mean and 95 % interval" if grid.shape[-1] >= FEWEST_SEEDS else "mean"
    label(axes, f"{name}: {words}", "margin λ", name)
    legend(axes, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return fix_margins(figure, left=0.1, right=0.8, bottom=0.16, top=0.9)


def draw_winner(settings: int, seeds: int, spread: float) -> Figure:
    """Settings that are all equally good: what the best of them promises, and what it keeps.

    Args:
        settings: how many are compared.
        seeds: of each.
        spread: standard deviation of a seed's return.
    """
    rng = np.random.default_rng(0)
    first, again = rng.normal(10.0, spread / np.sqrt(seeds), (2, 2_000, settings))
    kept = np.take_along_axis(again, first.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    figure, axes = new_figure(width=8.6, height=4.2)
    bins = np.linspace(10 - 3 * spread, 10 + 3 * spread, 60)
    for scores, colour, hatch, name in (
        (kept, NEUTRAL, "//", "kept: fresh seeds"),
        (first.max(axis=1), REWARD, None, "promised: the seeds that chose it"),
    ):
        words = f"{name}, mean {scores.mean():.1f}"
        axes.hist(scores, bins, color=colour, alpha=0.6, hatch=hatch, label=words)
    axes.axvline(10, color=LIMIT, linewidth=2)
    title = f"The best of {settings} equal settings, {seeds} seeds each"
    label(axes, title, "return (line: the truth)", "of 2,000 studies")
    axes.margins(y=0.35)
    legend(axes, loc="upper left", framealpha=1.0)
    return fix_margins(figure, left=0.1, right=0.98, bottom=0.16, top=0.9)


def draw_weight_at_work(runs: Mapping[str, pd.DataFrame], window: int = 5) -> Figure:
    """Return, cost and weight of the cost in the learning records of up to three runs."""
    figure, panels = new_figure(1, 3, width=4.0, height=3.8)
    columns = {
        "return_mean": "Return",
        "episodic_cost_mean": "Episodic cost",
        "cost_weight": "Weight of the cost",
    }
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        for (name, record), (colour, line) in zip(runs.items(), SERIES, strict=False):
            smooth = moving_average(record[column].to_numpy(dtype=float), window)
            steps = record["env_steps"] / 1e6
            axes.plot(steps, smooth, line, color=colour, markevery=25, linewidth=2.2, label=name)
        label(axes, title, "million steps", "")
    limit = next(iter(runs.values()))["cost_limit"].iloc[-1]
    panels[1].axhline(limit, color=LIMIT, linewidth=2)
    panels[2].set_ylim(0, 1)
    legend(panels[2], loc="lower right")
    return figure


def draw_responses(bins: Mapping[str, pd.DataFrame]) -> Figure:
    """How return and cost changed under each weight (bins of `responses.by_weight`): means over
    trainings, with 95 % intervals."""
    figure, panels = new_figure(1, 2, width=5.6, height=4.0)
    titles = ("Change of the return", "... and of the cost")
    for axes, measure, title in zip(panels, ("return", "episodic cost"), titles, strict=True):
        colour = MEASURES[measure][1]
        for place, rows in enumerate(bins.values()):
            changes = rows[measure].to_numpy()
            axes.plot([place, place], mean_interval(changes), color=colour, linewidth=4)
            axes.plot(place, changes.mean(), "D", color=colour, markerfacecolor="white")
        axes.axhline(0.0, color=NEUTRAL, linewidth=1.5)
        axes.set_xticks(range(len(bins)), [*bins])
        label(axes, title, "weight of the cost", "")
    return figure


def draw_times(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Milliseconds of a natural gradient, K-FAC against conjugate gradient, a group a network."""
    figure, axes = new_figure(width=8.6, height=4.2)
    for method, colour, line in (("K-FAC", REWARD, "o-"), ("conjugate gradient", SECOND, "s--")):
        times = [row[f"{method} ms"] for row in rows]
        axes.plot(times, line, color=colour, markersize=10, linewidth=2, label=method)
    for place, row in enumerate(rows):
        ratio, height = row["conjugate gradient / K-FAC"], row["conjugate gradient ms"]
        words = {"ha": "center", "fontsize": FONT_SIZE}
        axes.text(place, height * 1.25, f"× {ratio:.0f}", **words)
    names = [f"{row['hidden layers']}\n{row['parameters']:,} parameters" for row in rows]
    axes.set_xticks(range(len(rows)), names)
    axes.set_yscale("log")
    label(axes, title, "", "ms (logarithmic)")
    axes.margins(x=0.15, y=0.2)
    legend(axes, loc="upper left")
    return figure


def draw_clarity(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How much of one epoch's directions is signal, by lambda of GAE; a panel a policy.

    Args:
        rows: of `bench noise`, those of a policy together.
    """
    lines = (
        ("reward's clarity", "reward's clarity", REWARD, "o-"),
        ("cost's clarity", "cost's clarity", COST, "s-"),
        (
            "cost's truth, cosine to reference",
            "cost's truth against that at 0.95",
            NEUTRAL,
            "d:",
        ),
    )
    figure = _by_look_ahead(rows, lines, "cosine")
    for axes in figure.axes:
        axes.set_ylim(0.0, 1.05)
    return figure


def draw_gain_at_rest(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """What a blend earns where it leaves the cost as it is, by lambda of GAE; a panel a policy.

    Of steps whose two weights sum to 1.

    Args:
        rows: of `bench noise`, those of a policy together, with columns `cost lowered` and
            `gain at rest`.
    """
    lines = (
        ("cost lowered", "cost that the cost's direction takes away", COST, "s-"),
        ("gain at rest", "reward gained where the cost rests", REWARD, "o--"),
    )
    figure = _by_look_ahead(rows, lines, "thousandths a step")
    for axes in figure.axes:
        axes.axhline(0.0, color=NEUTRAL, linewidth=1.5, zorder=0)
    return figure


def _by_look_ahead(
    rows: Sequence[Mapping[str, Any]], lines: Sequence[tuple[str, str, str, str]], unit: str
) -> Figure:
    """A panel a policy; each line is a column, its words, its colour and its marks."""
    policies = pd.DataFrame(rows).groupby(["run", "env_steps"], sort=False)
    figure, panels = new_figure(1, len(policies), width=5.8, height=4.4)
    for axes, ((_, steps), table) in zip(np.atleast_1d(panels).flat, policies, strict=True):
        places = range(len(table))
        for name, words, colour, line in lines:
            axes.plot(places, table[name], line, color=colour, markersize=9, label=words)
        axes.set_xticks(places, [f"{share:g}" for share in table["lambda"]])
        _, row = next(table.iterrows())
        title = f"{steps:,} steps: return {row['return']:.0f}, cost {row['cost']:.0f}"
        label(axes, title, r"$\lambda$ of GAE", unit)
    handles, names = np.atleast_1d(panels).flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=FONT_SIZE - 1)
    return figure
