"""Pictures of the frontier: other eyes, shared weights, depth, and what trainings reached.

Expand (KFC) is green as K-FAC is everywhere, reduce orange, the exact matrix black.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from kfcpo_lib.gaits import Gait
from kfcpo_lib.plots.learning import moving_average
from kfcpo_lib.plots.style import (
    COMMITTED,
    COST,
    FONT_SIZE,
    LIMIT,
    MARGIN,
    NEUTRAL,
    REWARD,
    SECOND,
    label,
    legend,
    new_figure,
)

Array = NDArray[np.float64]
CHANNELS = ("trail: where it came from", "goal", "hazards")
LINES: tuple[dict[str, Any], ...] = (
    {"color": COMMITTED, "linestyle": "-", "marker": "s"},
    {"color": SECOND, "linestyle": "--", "marker": "o"},
    {"color": NEUTRAL, "linestyle": ":", "marker": "D"},
)
BARS: dict[str, dict[str, Any]] = {
    "K-FAC": {"color": COMMITTED, "hatch": ""},
    "conjugate gradient": {"color": SECOND, "hatch": "//"},
    "plain gradient": {"color": NEUTRAL, "hatch": ".."},
}


def camera(picture: ArrayLike, width: float = 3.6) -> Figure:
    """The three channels [3, pixels, pixels] of one picture; the point stands at the cross."""
    channels = np.asarray(picture, dtype=float)
    figure, row = new_figure(1, 3, width=width, height=width)
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.88, wspace=0.05)
    middle = (channels.shape[1] - 1) / 2
    for axes, channel, title in zip(row, channels, CHANNELS, strict=True):
        axes.imshow(channel, cmap="gray_r", vmin=0, vmax=1, origin="lower")
        axes.plot(middle, middle, "+", color=COST, markersize=14, markeredgewidth=2)
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set(xticks=[], yticks=[])
    return figure


def flicker(distance: ArrayLike, open_eyes: ArrayLike, window: int) -> Figure:
    """One number of the world over time, the moments at which it was seen, and one window."""
    values, seen = np.asarray(distance, dtype=float), np.asarray(open_eyes, dtype=bool)
    figure, axes = new_figure(width=9.0, height=3.8)
    times = np.arange(len(values))
    axes.plot(times, values, color=NEUTRAL, linewidth=2, label="the truth")
    axes.plot(times[seen], values[seen], "o", color=REWARD, markersize=8, label="seen")
    last = len(values) - 1
    axes.axvspan(last - window + 0.5, last + 0.5, color=MARGIN, alpha=0.25, label="last window")
    label(axes, "Eyes open at a third of the moments", "step", "x of the goal, from the point")
    legend(axes)
    return figure


def three_blocks(blocks: Mapping[str, ArrayLike], errors: Mapping[str, float]) -> Figure:
    """The exact block beside its approximations, in one colour scale, errors in the titles."""
    figure, row = new_figure(1, len(blocks), width=3.4, height=3.8)
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.85, wspace=0.05)
    arrays = {name: np.asarray(block, dtype=float) for name, block in blocks.items()}
    top = max(float(np.abs(block).max()) for block in arrays.values()) or 1.0
    norm = SymLogNorm(linthresh=top / 100, vmin=-top, vmax=top)
    for axes, (name, block) in zip(row, arrays.items(), strict=True):
        axes.imshow(block, cmap="RdBu_r", norm=norm, interpolation="nearest")
        said = _in_words(errors[name]) if name in errors else "the truth"
        axes.set_title(f"{name}\n{said}", fontsize=FONT_SIZE)
        axes.set(xticks=[], yticks=[])
    return figure


def _in_words(error: float) -> str:
    return "no error" if error < 1e-9 else f"error {100 * error:.0f} %"


def sharing_errors(groups: Mapping[str, Mapping[str, float]]) -> Figure:
    """Relative error of expand and of reduce in each network."""
    figure, axes = new_figure(width=9.5, height=4.6)
    looks: dict[str, dict[str, Any]] = {
        "expand": {"color": COMMITTED, "hatch": ""},
        "reduce": {"color": MARGIN, "hatch": "//"},
    }
    names = list(next(iter(groups.values())))
    for shift, (way, errors) in zip((-0.2, 0.2), groups.items(), strict=True):
        places = np.arange(len(names)) + shift
        values = [100 * errors[name] for name in names]
        bars = axes.bar(places, values, 0.38, label=way, edgecolor="white", **looks[way])
        words = ["exact" if v < 1e-7 else f"{v:.0f} %" for v in values]
        axes.bar_label(bars, words, fontsize=FONT_SIZE - 2, padding=2)
    label(axes, "Error of G ⊗ A against the exact block", "", "relative error in %")
    axes.set_xticks(range(len(names)), names)
    axes.margins(y=0.15)
    legend(axes)
    return figure


def trainings(runs: Mapping[str, pd.DataFrame], window: int = 5) -> Figure:
    """Return, and episodic cost with its limit, of a few runs."""
    figure, (left, right) = new_figure(1, 2, width=6.2, height=4.4)
    for (name, run), look in zip(runs.items(), LINES, strict=False):
        steps = run["env_steps"].to_numpy() / 1000
        for axes, column in ((left, "return_mean"), (right, "episodic_cost_mean")):
            values = moving_average(run[column].to_numpy(dtype=float), window)
            axes.plot(steps, values, label=name, markevery=5, linewidth=2.5, markersize=7, **look)
    right.axhline(float(run["cost_limit"].iloc[-1]), color=LIMIT, linewidth=2, label="limit C")
    label(left, "Return", "thousand steps", "return per episode")
    label(right, "Episodic cost", "thousand steps", "cost per episode")
    right.set_ylim(bottom=0)
    legend(left)
    legend(right)
    return figure


def gaits(runs: Mapping[str, Gait], every: int = 20) -> Figure:
    """Robots from the side, a posture every so many steps; the thicker, the more it costs there."""
    figure, rows = new_figure(len(runs), 1, width=11.0, height=2.0)
    farthest = max(float(run.limbs[..., 0].max()) for run in runs.values())
    for axes, (name, run) in zip(np.atleast_1d(rows), runs.items(), strict=True):
        for step in range(0, len(run.limbs), every):
            effort = float(run.cost[max(step - every, 0) : step + 1].mean())
            limbs = LineCollection(run.limbs[step], color=COST, capstyle="round")
            limbs.set_linewidth(1.0 + 12.0 * effort)
            axes.add_collection(limbs)
        axes.axhline(0.0, color=NEUTRAL, linewidth=2)
        axes.set(xlim=(-1.0, farthest + 0.3), ylim=(-0.1, 1.3), aspect="equal")
        label(axes, f"{name}: cost {run.cost.mean():.2f} per step", "", "metres")
    np.atleast_1d(rows)[-1].set_xlabel("metres from the start", fontsize=FONT_SIZE)
    return figure


def depth(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Time of conjugate gradient over that of K-FAC, and the quality of each step, by depth."""
    figure, (left, right) = new_figure(1, 2, width=6.2, height=4.4)
    names = [str(row["hidden layers"]) for row in rows]
    ratios = [float(row["conjugate gradient / K-FAC"]) for row in rows]
    bars = left.bar(names, ratios, 0.6, color=SECOND, hatch="//", edgecolor="white")
    left.bar_label(bars, fmt="%.1f×", fontsize=FONT_SIZE - 1, padding=2)
    left.axhline(1.0, color=LIMIT, linewidth=1)
    label(left, "Time of conjugate gradient / K-FAC", "hidden layers", "ratio in one run")
    left.margins(y=0.15)
    _quality_bars(right, rows)
    label(right, "Gain at equal KL, share of the best", "hidden layers", "step quality")
    right.set_xticks(range(len(names)), names)
    right.set_ylim(0, 1.35)
    legend(right, ncols=2, loc="upper center")
    return figure


def _quality_bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for shift, (method, look) in zip((-0.27, 0.0, 0.27), BARS.items(), strict=True):
        shares = [float(row[f"quality of {method}"]) for row in rows]
        places = np.arange(len(rows)) + shift
        bars = axes.bar(places, shares, 0.26, label=method, edgecolor="white", **look)
        axes.bar_label(bars, fmt="%.2f", fontsize=FONT_SIZE - 4, padding=2)
