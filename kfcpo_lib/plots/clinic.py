"""Pictures of notebook 11: the chart of a run, and close-ups of where silent bugs show."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from scipy.special import expit

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
from kfcpo_lib.records import EpochReport

Array = NDArray[np.float64]
PANELS = {
    "return_mean": ("Return", REWARD),
    "episodic_cost_mean": ("Episodic cost", COST),
    "cost_weight": ("Weight of the cost, $w_c$", COST),
    "undone": ("Share of steps undone", ROLLBACK),
    "delta": ("δ / KL limit", SECOND),
    "kl": ("KL of the epoch / KL limit", COMMITTED),
}
"""Column of each panel of a chart, its title and its colour."""


def draw_chart(
    run: pd.DataFrame,
    beside: pd.DataFrame,
    fell_ill: int = 0,
    window: int = 1,
    names: tuple[str, str] = ("this run, in colour", "beside it"),
) -> Figure:
    """Six curves of a run (solid) beside another's (dashed), as a doctor's chart.

    Args:
        run, beside: tables of `progress.csv`.
        fell_ill: the last epoch before the fault; 0: there was none.
        window: epochs averaged.
        names: of both, for the legend.
    """
    figure, axes = new_figure(2, 3, width=3.5, height=2.6)
    for panel, (column, (title, colour)) in zip(axes.flat, PANELS.items(), strict=True):
        for table, line, ink in ((beside, "--", NEUTRAL), (run, "-", colour)):
            values = moving_average(_values(table, column), window)
            panel.plot(table["epoch"], values, line, color=ink, lw=2.2)
        if fell_ill:
            panel.axvline(fell_ill + 0.5, color=NEUTRAL, ls=":", lw=1.5)
        label(panel, title, "epoch" if panel in axes[1] else "", "")
    _limits(axes.flat, run)
    _names_of_lines(figure, axes.flat[1], names)
    return fix_margins(figure, left=0.055, bottom=0.1, top=0.86, wspace=0.17, hspace=0.36)


def _names_of_lines(figure: Figure, cost: Axes, runs: tuple[str, str]) -> None:
    """One legend above all panels, where it hides no curve."""
    lines, names = cost.get_legend_handles_labels()
    for line, ink, name in (("--", NEUTRAL, runs[1]), ("-", LIMIT, runs[0])):
        lines.insert(0, Line2D([], [], color=ink, ls=line, lw=2.2))
        names.insert(0, name)
    figure.legend(lines, names, loc="upper center", ncols=4, fontsize=FONT_SIZE - 2)


def _values(table: pd.DataFrame, column: str) -> Array:
    """The panel's numbers, [epochs]."""
    if column == "undone":
        values: Array = (table["rollbacks"] / table["minibatches"]).to_numpy(dtype=float)
    elif column in ("delta", "kl"):
        values = (table[column] / table["kl_limit"]).to_numpy(dtype=float)
    else:
        values = table[column].to_numpy(dtype=float)
    return values


def _limits(panels: Sequence[Axes], run: pd.DataFrame) -> None:
    """The lines that the curves are read against; limit and centre as each epoch had them."""
    _, cost, weight, undone, delta, kl = panels
    limit, epochs = run["cost_limit"].to_numpy(), run["epoch"].to_numpy()
    edges = np.append(epochs, epochs[-1] + 1) - 0.5
    cost.stairs(limit, edges, baseline=None, color=LIMIT, lw=1.5, label="limit C")
    centre = limit * run["margin_lambda"].to_numpy()
    cost.stairs(centre, edges, baseline=None, color=MARGIN, ls="--", lw=1.5, label="centre λC")
    cost.set_ylim(bottom=0.0)
    for panel in (weight, undone):
        panel.set(ylim=(-0.05, 1.05), yticks=(0.0, 0.5, 1.0))
    delta.set_yscale("log")
    delta.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    delta.yaxis.set_major_formatter("{x:g}")
    delta.yaxis.set_minor_locator(NullLocator())
    kl.axhline(1.0, color=LIMIT, lw=1.5)
    kl.set_ylim(bottom=-0.04 * kl.get_ylim()[1])


def draw_cosines(runs: Mapping[str, Sequence[EpochReport]]) -> Figure:
    """The cosine of the two directions in every minibatch, run by run."""
    figure, axes = new_figure(1, len(runs), width=5.0, height=3.2)
    for panel, (name, reports) in zip(np.atleast_1d(axes), runs.items(), strict=True):
        cosines = [trial.cosine for report in reports for trial in report.details]
        panel.plot(np.arange(1, len(cosines) + 1), cosines, "o", color=COMMITTED, ms=5)
        panel.axhline(0.0, color=NEUTRAL, lw=1)
        panel.set_ylim(-1.15, 1.15)
        label(panel, name, "trial step", "")
    np.atleast_1d(axes)[0].set_ylabel("cosine of $n_r$ and $n_c$", fontsize=14)
    return figure


def draw_promises(runs: Mapping[str, Sequence[EpochReport]]) -> Figure:
    """True KL of each epoch's first step over the delta it was promised to cost."""
    figure, axes = new_figure(width=7.5, height=4.0)
    looks = zip((COMMITTED, ROLLBACK, MARGIN, SECOND), ("o-", "X--", "s:", "^-."), strict=True)
    for (name, reports), (colour, line) in zip(runs.items(), looks, strict=False):
        factors = [report.details[0].kl / report.details[0].delta for report in reports]
        epochs = [report.epoch for report in reports]
        axes.plot(epochs, factors, line, color=colour, ms=8, lw=2, label=name)
    axes.axhline(1.0, color=LIMIT, lw=1.5, label="promise kept")
    axes.set_yscale("log")
    label(axes, "First step of each epoch", "epoch", r"true KL / promised $\delta$")
    legend(axes)
    return figure


def draw_weight_law(runs: Mapping[str, pd.DataFrame]) -> Figure:
    """The weight of every epoch against the episodic cost, the law it should follow, and 1 - it."""
    figure, axes = new_figure(width=7.5, height=4.0)
    looks = zip((COMMITTED, COST, ROLLBACK), "oX^", strict=True)
    for (name, table), (colour, marker) in zip(runs.items(), looks, strict=False):
        cost, weight = table["episodic_cost_mean"], table["cost_weight"]
        axes.plot(cost, weight, marker, color=colour, ms=9, label=name)
    first = next(iter(runs.values())).iloc[0]
    centre = first["margin_lambda"] * first["cost_limit"]
    grid = np.linspace(0.0, 2.8 * centre, 100)
    law = expit(first["steepness_k"] * (grid - centre))
    axes.plot(grid, law, color=NEUTRAL, lw=2, label=r"$\sigma(k\,(c_{ep} - \lambda C))$")
    axes.plot(grid, 1.0 - law, "--", color=NEUTRAL, lw=1.5, label="its mirror image")
    axes.axvline(first["cost_limit"], color=LIMIT, lw=1.5)
    axes.text(first["cost_limit"], 0.02, " limit C", fontsize=11)
    label(axes, "Does the weight follow its law?", r"episodic cost $c_{ep}$", "$w_c$")
    legend(axes, loc="center right")
    return figure


def draw_critics(run: pd.DataFrame, beside: pd.DataFrame, fell_ill: int) -> Figure:
    """Mean squared error of both critics."""
    figure, axes = new_figure(1, 2, width=5.2, height=3.4)
    panels = (("value_loss_reward", "reward", REWARD), ("value_loss_cost", "cost", COST))
    for panel, (column, title, colour) in zip(axes, panels, strict=True):
        panel.plot(beside["epoch"], beside[column], "--", color=NEUTRAL, lw=2, label="healthy")
        panel.plot(run["epoch"], run[column], "-", color=colour, lw=2.5, label="patient")
        panel.axvline(fell_ill + 0.5, color=NEUTRAL, ls=":", lw=1.5)
        panel.set_yscale("log")
        label(panel, f"Error of the {title} critic", "epoch", "mean squared error")
    legend(axes[0], loc="upper left")
    return figure


def draw_end_of_episode(advantages: Mapping[str, Array]) -> Figure:
    """Advantage of every step of one episode, [T] each."""
    figure, axes = new_figure(width=7.5, height=3.6)
    looks = zip((COMMITTED, COST), ("-", "--"), strict=True)
    for (name, values), (colour, line) in zip(advantages.items(), looks, strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, line, color=colour, lw=3, label=name)
    label(axes, "A world that pays 1 at every step", "step of the episode", "advantage")
    legend(axes, loc="lower left")
    return figure
