"""Learning curves of stored runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kfcpo_lib.plots.style import (
    COST,
    FONT_SIZE,
    LIMIT,
    MARGIN,
    NEUTRAL,
    REWARD,
    ROLLBACK,
    label,
    legend,
    new_figure,
    png,
)
from kfcpo_lib.runs import read_config, read_progress


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """[n] mean of the last `window` values (fewer at the start); NaN counts as missing."""
    sums = np.nancumsum(np.insert(values, 0, 0.0))
    counts = np.cumsum(np.insert(np.isfinite(values), 0, False))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    with np.errstate(invalid="ignore"):
        averages: NDArray[np.float64] = (sums[ends] - sums[starts]) / (
            counts[ends] - counts[starts]
        )
    return averages


def learning_curves(folders: Sequence[str | Path], window: int = 5) -> Figure:
    """Return, episodic cost with its limit and margin centre, KL with rollbacks, of stored runs.

    Args:
        folders: run folders; each run gets its own line style.
        window: epochs averaged in the thick lines; thin lines are the epochs themselves.
    """
    figure, (axes_return, axes_cost, axes_kl) = new_figure(1, 3)
    for folder, line in zip(folders, _line_styles(len(folders)), strict=True):
        progress = read_progress(folder)
        steps = progress["env_steps"] / 1e6
        name = f"{read_config(folder)['settings']['algorithm']} ({Path(folder).name})"
        for axes, column, colour in (
            (axes_return, "return_mean", REWARD),
            (axes_cost, "episodic_cost_mean", COST),
            (axes_kl, "kl", NEUTRAL),
        ):
            values = progress[column].to_numpy(dtype=float)
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
            smooth = moving_average(values, window)
            axes.plot(steps, smooth, color=colour, linestyle=line, linewidth=2.5, label=name)
    limit = progress["cost_limit"]
    axes_cost.plot(steps, limit, color=LIMIT, linewidth=2, label="limit C")
    centre = limit * progress["margin_lambda"]
    axes_cost.plot(
        steps, centre, color=MARGIN, linestyle="--", linewidth=2, label="margin centre λC"
    )
    axes_kl.plot(steps, progress["kl_limit"], color=LIMIT, linewidth=2, label="KL limit")
    undone = axes_kl.twinx()
    share = progress["rollbacks"] / progress["minibatches"]
    undone.bar(steps, share, width=steps.diff().median(), color=ROLLBACK, alpha=0.3)
    undone.set_ylim(0, 1)
    undone.set_ylabel("share of minibatches undone", fontsize=FONT_SIZE, color=ROLLBACK)
    label(axes_return, "Return", "million steps", "return per episode")
    label(axes_cost, "Episodic cost", "million steps", "cost per episode")
    label(axes_kl, "KL of each epoch", "million steps", "nats")
    for axes in (axes_return, axes_cost, axes_kl):
        legend(axes)
    return figure


def save_learning_curves(folders: Sequence[str | Path], path: str | Path) -> None:
    """`learning_curves` as a PNG file."""
    Path(path).write_bytes(png(learning_curves(folders)))


def _line_styles(count: int) -> list[str]:
    return [("-", "--", ":", "-.")[i % 4] for i in range(count)]
