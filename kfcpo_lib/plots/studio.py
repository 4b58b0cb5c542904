"""The studio's instruments, and the agent from above.

Margins are fixed, not found, and long curves are thinned: a picture is drawn in a fraction of the
time that an epoch takes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kfcpo_lib.blending import margin_weights
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
from kfcpo_lib.recordings import Recording
from kfcpo_lib.tracks import Track

Array = NDArray[np.float64]
Runs = Mapping[str, Recording]
LINES = ("-", "--")
"""Line style of the first and of the second run."""
TRIAL_MARKS = (("o", "x"), ("^", "+"))
"""Marks of kept and undone steps, of the first and of the second run."""
SMALL = FONT_SIZE - 3
MOST_POINTS = 400
"""Longer curves are thinned to so many points."""
TRIALS_SHOWN = 100
FARTHEST = 3.5
"""Metres from the middle that are drawn at most: some agents run away."""
WINDOW = 5
"""Epochs averaged in the thick lines."""
SYMBOLS = {
    "margin_lambda": "λ",
    "steepness_k": "k",
    "kl_limit": "ε_KL",
    "cost_limit": "C",
}
KINDS = {
    "hazards": (COST, "//", "hazard"),
    "gremlins": (ROLLBACK, "xx", "gremlin"),
    "vases": (SECOND, "..", "vase"),
    "buttons": (NEUTRAL, "", "button"),
}
"""Colour, hatch and name of what lies around."""


def draw_instruments(runs: Runs, whole: Runs | None = None) -> Figure:
    """Six instruments of one run, or of two with the second one dashed.

    Args:
        runs: name -> the run until now.
        whole: name -> the run to its end; drawn faintly behind.
    """
    figure, axes = new_figure(2, 3, width=3.95, height=3.15)
    fix_margins(figure, left=0.07, right=0.98, bottom=0.1, top=0.94, wspace=0.3, hspace=0.44)
    (to_return, to_cost, to_weights), (to_sigmoid, to_kl, to_angle) = axes
    whole = whole or runs
    _curves(to_return, runs, whole, "return_mean", REWARD)
    _curves(to_cost, runs, whole, "episodic_cost_mean", COST)
    _limits(to_cost, runs)
    _weights(to_weights, runs)
    for panel in (to_return, to_cost, to_weights):
        _steps(panel, runs, whole)
        _mark_changes(panel, runs)
    label(to_return, "Return", "million steps", "return per episode")
    label(to_cost, "Episodic cost", "million steps", "cost per episode")
    label(to_weights, "Weights", "million steps", "weight")
    to_weights.set_ylim(-0.05, 1.05)
    _sigmoid(to_sigmoid, runs)
    _trials(to_kl, runs)
    _angle(to_angle, runs)
    sides = ("upper left", "upper right", "center right", "center right", "upper center")
    panels = (to_return, to_cost, to_weights, to_sigmoid, to_kl)
    for panel, side in zip(panels, sides, strict=True):
        columns = 2 if panel is to_kl else 1
        legend(panel, loc=side, ncols=columns, labelspacing=0.2, handlelength=1.6)
    return figure


def draw_stage(tracks: Mapping[str, Track], step: int, trail: int = 1_000) -> Figure:
    """Each agent from above at one step of its episode, its trail coloured by cost.

    Args:
        tracks: name -> episode.
        step: how many steps have been made.
        trail: so many of the last steps are drawn.
    """
    figure, axes = new_figure(1, len(tracks), width=4.6, height=5.4)
    fix_margins(figure, left=0.1 / len(tracks), right=0.99, bottom=0.2, top=0.89, wspace=0.16)
    panels = np.atleast_1d(axes)
    reach = min(0.3 + max(_extent(track) for track in tracks.values()), FARTHEST)
    for panel, (name, track) in zip(panels, tracks.items(), strict=True):
        now = min(step, len(track.cost))
        _world(panel, track, now)
        _trail(panel, track, now, trail)
        gain, bill = track.reward[:now].sum(), track.cost[:now].sum()
        label(panel, f"{name}\nstep {now}: return {gain:.1f}, cost {bill:.0f}", "metres", "")
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        panel.title.set_fontsize(SMALL + 1)
    names = panels[0].get_legend_handles_labels()
    rows: dict[str, Any] = {"loc": "lower center", "ncols": 3 * len(tracks), "frameon": False}
    figure.legend(*names, fontsize=SMALL, columnspacing=1.0, handletextpad=0.3, **rows)
    return figure


def _thinned(steps: Any, values: Any) -> tuple[Array, Array]:
    """In million steps, at most `MOST_POINTS` points, the last one among them."""
    stride = max(1, -(-len(steps) // MOST_POINTS))
    kept = np.arange(len(steps))[::-1][::stride][::-1]
    return np.asarray(steps)[kept] / 1e6, np.asarray(values, dtype=float)[kept]


def _curves(axes: Axes, runs: Runs, whole: Runs, column: str, color: str) -> None:
    """Thin: the epochs; thick: their moving average; faint: what is still to come."""
    for (name, run), line in zip(runs.items(), LINES, strict=False):
        to_come = whole[name].progress
        smooth = moving_average(to_come[column].to_numpy(dtype=float), WINDOW)
        axes.plot(*_thinned(to_come["env_steps"], smooth), line, color=color, lw=1, alpha=0.3)
        steps, values = run.progress["env_steps"], run.progress[column].to_numpy(dtype=float)
        axes.plot(*_thinned(steps, values), line, color=color, lw=1, alpha=0.45)
        smooth = moving_average(values, WINDOW)
        axes.plot(*_thinned(steps, smooth), line, color=color, lw=2.5, label=name)


def _limits(axes: Axes, runs: Runs) -> None:
    for (_, run), line in zip(runs.items(), LINES, strict=False):
        progress, first = run.progress, line == LINES[0]
        limit = progress["cost_limit"]
        centre = limit * progress["margin_lambda"]
        for values, color, text in ((limit, LIMIT, "limit C"), (centre, MARGIN, "centre λC")):
            points = _thinned(progress["env_steps"], values)
            axes.plot(*points, line, color=color, lw=2, label=text if first else None)


def _weights(axes: Axes, runs: Runs) -> None:
    """Thin: the epochs; thick: their moving average; of two runs the weight of the cost alone."""
    for (_, run), line in zip(runs.items(), LINES, strict=False):
        steps, weight = run.progress["env_steps"], run.progress["cost_weight"].to_numpy(dtype=float)
        both = ((weight, COST, "$w_c$"), (1 - weight, REWARD, "$w_r$"))
        for values, color, text in both[: 2 if len(runs) == 1 else 1]:
            axes.plot(*_thinned(steps, values), line, color=color, lw=1, alpha=0.45)
            smooth = _thinned(steps, moving_average(values, WINDOW))
            axes.plot(*smooth, line, color=color, lw=2.5, label=text if line == "-" else None)


def _steps(axes: Axes, runs: Runs, whole: Runs) -> None:
    """Room for what was trained and a good part of what is to come; a line at the present."""
    now = max(run.env_steps for run in runs.values())
    planned = max(run.config.total_steps for run in whole.values())
    known = max(run.env_steps for run in whole.values())
    axes.set_xlim(0, max(known, min(planned, 4 * now)) / 1e6)
    axes.axvline(now / 1e6, color=NEUTRAL, lw=0.8)


def _mark_changes(axes: Axes, runs: Runs) -> None:
    """A dotted line where a knob was turned, with its new value."""
    for run in runs.values():
        for number, change in enumerate(run.changes[-6:]):
            x = change.env_steps / 1e6
            axes.axvline(x, color=LIMIT, lw=1.2, ls=":")
            text = f" {SYMBOLS[change.knob]} → {change.after:.3g}"
            place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": True}
            height = 0.02 + 0.08 * (number % 4)
            place["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.text(x, height, text, va="bottom", fontsize=SMALL - 1, **place)


def _sigmoid(axes: Axes, runs: Runs) -> None:
    """Both weights over the episodic cost, with the present one and the last few on them."""
    limit = float(max(run.progress["cost_limit"].iloc[-1] for run in runs.values()))
    costs = [run.progress["episodic_cost_mean"].tail(10).max() for run in runs.values()]
    highest = float(np.nanmax([2.0 * limit, *(1.1 * cost for cost in costs)]))
    grid = np.linspace(0.0, highest, 120)
    for (_, run), line in zip(runs.items(), LINES, strict=False):
        now = run.progress.iloc[-1]
        knobs = now["cost_limit"], now["margin_lambda"], now["steepness_k"]
        weights = np.array([margin_weights(cost, *knobs) for cost in grid])
        for column, color, text in ((1, COST, "$w_c$"), (0, REWARD, "$w_r$")):
            shown = text if line == "-" else None
            axes.plot(grid, weights[:, column], line, color=color, lw=2, label=shown)
        points = run.progress[["episodic_cost_mean", "cost_weight"]].tail(6).dropna().to_numpy().T
        axes.plot(*points, "o-", color=LIMIT, ms=5, alpha=0.25)
        axes.plot(*points[:, -1:], "o", color=LIMIT, ms=9, mec="white")
        axes.axvline(knobs[0] * knobs[1], color=MARGIN, ls=line, lw=2)
    axes.axvline(limit, color=LIMIT, lw=1.5)
    axes.plot([], [], "o", color=LIMIT, ms=8, label="$c_{ep}$ now")
    label(axes, _sigmoid_title(runs), "episodic cost $c_{ep}$", "weight")


def _sigmoid_title(runs: Runs) -> str:
    kinds = {run.config.algorithm for run in runs.values()}
    return "The sigmoid" if kinds == {"kfcpo"} else "The sigmoid (KFCPO's alone)"


def _trials(axes: Axes, runs: Runs) -> None:
    """KL of the last minibatches: kept, or undone beyond the limit."""
    label(axes, "KL of each minibatch", "minibatches ago", "nats")
    highest = 0.0
    for run, marks in zip(runs.values(), TRIAL_MARKS, strict=False):
        limit, first = float(run.progress["kl_limit"].iloc[-1]), marks == TRIAL_MARKS[0]
        axes.axhline(limit, color=LIMIT, lw=1.5, label=r"$\varepsilon_{KL}$" if first else None)
        last = run.minibatches.tail(TRIALS_SHOWN)
        ago, kl = np.arange(1 - len(last), 1), last["kl"].to_numpy(dtype=float)
        kept = last["committed"].to_numpy(dtype=bool)
        texts = [f"{text}{'' if first else ', dashed'}" for text in ("kept", "undone")]
        kl = np.minimum(np.nan_to_num(kl, nan=np.inf), 3.0 * limit)
        axes.plot(ago[kept], kl[kept], marks[0], color=COMMITTED, ms=4, label=texts[0])
        axes.plot(ago[~kept], kl[~kept], marks[1], color=ROLLBACK, ms=6, mew=2, label=texts[1])
        highest = max(highest, 1.8 * limit, (1.0 + 0.4 * len(runs)) * float(kl.max(initial=0.0)))
    axes.set_ylim(0, highest)
    axes.set_xlim(-TRIALS_SHOWN, 2)
    if all(run.minibatches.empty for run in runs.values()):
        axes.text(0.5, 0.3, "not recorded", transform=axes.transAxes, ha="center", fontsize=SMALL)


def _angle(axes: Axes, runs: Runs) -> None:
    """The two directions of the last epoch: their angle, their lengths the weights."""
    angles = []
    for (_, run), line in zip(runs.items(), LINES, strict=False):
        now = run.progress.iloc[-1]
        cosine, weight = float(now["conflict_cosine"]), float(now["cost_weight"])
        if not np.isfinite([cosine, weight]).all():
            continue
        angle = np.arccos(np.clip(cosine, -1.0, 1.0))
        angles.append(f"{np.degrees(angle):.0f}°")
        _arrow(axes, 0.0, 1.0 - weight, REWARD, line, "reward, as long as $w_r$")
        _arrow(axes, angle, weight, COST, line, "cost, as long as $w_c$")
    turn = np.linspace(0, np.pi, 60)
    axes.plot(np.cos(turn), np.sin(turn), color=NEUTRAL, lw=0.8)
    axes.plot([0, 0], [0, 1], color=NEUTRAL, lw=0.8, ls=":")
    axes.set(xlim=(-1.1, 1.1), ylim=(-0.12, 1.55), aspect="equal", xticks=[], yticks=[])
    axes.set_title("Angle: " + (" and ".join(angles) or "one direction"), fontsize=FONT_SIZE + 1)
    axes.spines[:].set_visible(False)
    handles, texts = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[:2], texts[:2], fontsize=SMALL, loc="upper center", frameon=False)


def _arrow(axes: Axes, angle: float, length: float, color: str, line: str, text: str) -> None:
    tip = max(length, 0.03) * np.array([np.cos(angle), np.sin(angle)])
    axes.plot([0, tip[0]], [0, tip[1]], line, color=color, lw=3, label=text)
    axes.plot(*tip, "o", color=color, ms=8)


def _extent(track: Track) -> float:
    """How far from the middle anything gets, metres."""
    places = [track.path, track.goal, *(track.objects.get(kind, track.path) for kind in KINDS)]
    return float(max(np.abs(array).max(initial=0.0) for array in places))


def _world(axes: Axes, track: Track, step: int) -> None:
    """What lies around at this step, and the goal."""
    for kind, (color, hatch, name) in KINDS.items():
        if kind in track.objects:
            looks = {"facecolor": color, "alpha": 0.35, "hatch": hatch, "edgecolor": color}
            _discs(axes, track.objects[kind][step], track.sizes[kind], **looks)
            axes.plot([], [], "o", color=color, alpha=0.5, ms=11, label=name)
    reached = track.goal[track.goals_reached[track.goals_reached <= step] - 1]
    _discs(axes, reached, track.sizes["goal"], facecolor="none", edgecolor=COMMITTED)
    goal = {"facecolor": COMMITTED, "alpha": 0.6, "edgecolor": LIMIT}
    _discs(axes, track.goal[step][None], track.sizes["goal"], **goal)
    axes.plot([], [], "o", color=COMMITTED, alpha=0.6, ms=11, label="goal")


def _discs(axes: Axes, places: Array, radius: float, **looks: Any) -> None:
    width = np.full(len(places), 2 * radius)
    shape: dict[str, Any] = {"units": "xy", "offsets": places, "offset_transform": axes.transData}
    axes.add_collection(EllipseCollection(width, width, np.zeros(len(places)), **shape, **looks))


def _trail(axes: Axes, track: Track, step: int, trail: int) -> None:
    """The way of the agent: grey and thin where it was free, vermilion and thick where it paid."""
    first = max(0, step - trail)
    path, paid = track.path[first : step + 1], track.cost[first:step] > 0
    pieces = np.stack([path[:-1], path[1:]], axis=1)
    for which, color, width in ((~paid, NEUTRAL, 1.3), (paid, COST, 4.5)):
        axes.add_collection(LineCollection(pieces[which], colors=color, linewidths=width))
    axes.plot([], [], color=COST, lw=4.5, label="cost 1")
    if first == 0:
        axes.plot(*track.path[0], "o", color="white", ms=9, mec=NEUTRAL, mew=2, label="start")
    axes.plot(*track.path[step], "o", color=REWARD, ms=12, mec="white", zorder=6, label="agent")
    if len(track.heading):
        nose = track.heading[step]
        tip = track.path[step] + 0.25 * np.array([np.cos(nose), np.sin(nose)])
        axes.plot(*np.array([track.path[step], tip]).T, color=REWARD, lw=3, zorder=6)
