"""Pictures of notebook 00: two agents from above, what an agent sees, and one step."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from kfcpo_lib.envs.lidar import pseudo_lidar
from kfcpo_lib.plots.style import (
    COMMITTED,
    COST,
    FONT_SIZE,
    LIMIT,
    NEUTRAL,
    REWARD,
    SECOND,
    fix_margins,
    label,
    legend,
    new_figure,
)
from kfcpo_lib.tracks import Track

Array = NDArray[np.float64]
SMALL = FONT_SIZE - 3
BINS = 16
REACH = 3.0
"""Metres: farther away a lidar sees nothing."""
GROUPS = {"goal": COMMITTED, "hazards": COST, "vases": SECOND}
"""Colour of each lidar; the other sensors are grey."""


class View(NamedTuple):
    """One observation and the place where it was made."""

    obs: Array
    """[obs_dim]"""
    spans: Mapping[str, slice]
    """Which numbers come from which sensor."""
    agent: Array
    """[2] metres."""
    heading: float
    """Radians, of the agent's x axis."""
    objects: Mapping[str, Array]
    """Kind -> [count, 2] metres."""
    sizes: Mapping[str, float]
    """Kind -> radius, metres."""


def draw_agents(tracks: Mapping[str, Track], until: int | None = None) -> Figure:
    """The same world, one panel an agent: its path so far, and where it paid.

    Args:
        tracks: name of the agent -> its episode.
        until: step up to which the path is drawn; None: all of it.
    """
    figure, axes = new_figure(1, len(tracks), width=5.2, height=6.0)
    fix_margins(figure, left=0.06, right=0.99, bottom=0.17, top=0.88, wspace=0.14)
    reach = 0.25 + max(_extent(track) for track in tracks.values())
    for panel, (name, track) in zip(np.atleast_1d(axes), tracks.items(), strict=True):
        steps = len(track.cost) if until is None else min(until, len(track.cost))
        _world(panel, track, steps)
        path, paid = track.path[: steps + 1], track.cost[:steps] > 0
        panel.plot(*path.T, color=NEUTRAL, lw=1.2, zorder=2)
        panel.plot(*path[1:][paid].T, "x", color=LIMIT, ms=4, mew=0.9, label="cost 1", zorder=4)
        panel.plot(*path[0], "^", color=LIMIT, ms=9, label="start", zorder=5)
        panel.plot(*path[-1], "o", color=REWARD, ms=13, mec="white", label="agent", zorder=6)
        gain, bill = track.reward[:steps].sum(), track.cost[:steps].sum()
        title = f"{name}\nafter {steps} steps: return {gain:.1f}, cost {bill:.0f}"
        label(panel, title, "metres", "")
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    names = np.atleast_1d(axes)[0].get_legend_handles_labels()
    row: dict[str, Any] = {
        "loc": "lower center",
        "ncols": 7,
        "columnspacing": 1.2,
        "handletextpad": 0.4,
    }
    figure.legend(*names, **row, fontsize=SMALL, frameon=False)
    return figure


def draw_bill(tracks: Mapping[str, Track], cost_limit: float) -> Figure:
    """Return and cost of one episode as they add up, for each agent."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=3.8)
    lines = ("-", "--", ":")
    for (name, track), line in zip(tracks.items(), lines, strict=False):
        left.plot(np.cumsum(track.reward), line, color=REWARD, lw=2.2, label=name)
        right.plot(np.cumsum(track.cost), line, color=COST, lw=2.2, label=name)
    right.axhline(cost_limit, color=LIMIT, lw=1.8, label=f"limit C = {cost_limit:g}")
    label(left, "Reward so far", "step", "sum of rewards")
    label(right, "Cost so far", "step", "sum of costs")
    legend(left)
    legend(right)
    return figure


def draw_view(view: View) -> Figure:
    """Left: the world from above, turned with the agent. Right: the numbers it gets."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=5.2)
    turn = np.array(
        [
            [np.cos(view.heading), -np.sin(view.heading)],
            [np.sin(view.heading), np.cos(view.heading)],
        ]
    )
    for kind, color in GROUPS.items():
        if kind not in view.objects:
            continue
        seen = (view.objects[kind] - view.agent) @ turn
        for place in seen:
            disc = Circle(tuple(place), view.sizes[kind], facecolor=color, alpha=0.35, ec=color)
            left.add_patch(disc)
        left.plot([], [], "o", color=color, ms=12, alpha=0.5, label=kind)
    _rays(left)
    left.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH + 0.8), aspect="equal")
    label(left, "Seen from the agent (its nose to the right)", "metres", "")
    legend(left, loc="upper center", ncols=3)
    _numbers(right, view)
    return figure


def draw_lidar(distance: float = 1.2, angle: float = 50.0) -> Figure:
    """One object, and the sixteen numbers that the agent gets of it."""
    figure, (left, right) = new_figure(1, 2, width=5.2, height=4.6)
    fix_margins(figure, left=0.07, right=0.99, bottom=0.15, top=0.9, wspace=0.22)
    radians = np.deg2rad(angle % 360.0)
    place = distance * np.array([np.cos(radians), np.sin(radians)])
    felt = lidar_of(place[None])
    width = 360.0 / BINS
    for n, closeness in enumerate(felt):
        wedge = Wedge((0, 0), REACH, n * width, (n + 1) * width, color=COST, alpha=0.6 * closeness)
        left.add_patch(wedge)
    _rays(left)
    left.add_patch(Circle(tuple(place), 0.2, facecolor=COST, edgecolor=LIMIT))
    left.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    label(left, f"a hazard {distance:.1f} m away, at {angle:.0f}°", "metres", "")
    right.bar(np.arange(BINS), felt, color=COST)
    right.set_ylim(0, 1)
    right.set_xticks(range(0, BINS, 3))
    label(right, f"largest: {felt.max():.2f}", "number of the bin", "closeness")
    return figure


def lidar_of(points: Array) -> Array:
    """[16] the lidar's numbers for objects at these places [objects, 2], seen from the agent."""
    felt = np.zeros(BINS)
    conf = SimpleNamespace(num_bins=BINS, max_dist=REACH, exp_gain=1.0)
    pseudo_lidar(points[None], np.zeros((1, len(points)), dtype=np.intp), conf, felt)
    return felt


def draw_step(
    before: Array, after: Array, goal: Array, hazards: Array, sizes: Mapping[str, float]
) -> Figure:
    """One step: both distances to the goal, and how deep the agent is in a hazard."""
    figure, axes = new_figure(width=7.6, height=5.6)
    axes.add_patch(Circle(tuple(goal), sizes["goal"], color=COMMITTED, alpha=0.35))
    for place in hazards:
        disc = Circle(tuple(place), sizes["hazards"], facecolor=COST, alpha=0.3, hatch="//")
        axes.add_patch(disc)
    for place, line, name in ((before, "--", "distance before"), (after, "-", "distance after")):
        axes.plot(*np.array([place, goal]).T, line, color=REWARD, lw=2, label=name)
    axes.plot(*before, "o", color=NEUTRAL, ms=11, label="agent before")
    axes.plot(*after, "o", color=LIMIT, ms=11, label="agent after")
    axes.plot([], [], "o", color=COMMITTED, alpha=0.5, ms=12, label="goal")
    axes.plot([], [], "o", color=COST, alpha=0.5, ms=12, label="hazard")
    places = np.array([before, after, goal])
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    reach = 0.5 * float(np.ptp(places, axis=0).max()) + 0.5
    axes.set(aspect="equal")
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    label(axes, "Before and after, from above", "metres", "metres")
    axes.legend(fontsize=SMALL, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _extent(track: Track) -> float:
    places = (track.path, track.goal, track.hazards)
    return float(max(np.abs(array).max() for array in places)) + track.sizes["hazards"]


def _world(axes: Axes, track: Track, steps: int) -> None:
    """Hazards, vases, the goals reached so far with their numbers, and the present goal."""
    discs = [Circle(tuple(place), track.sizes["hazards"]) for place in track.hazards]
    axes.add_collection(PatchCollection(discs, fc=COST, ec="black", alpha=0.35, hatch="//"))
    reached = [n for n in track.goals_reached if n <= steps]
    for number, n in enumerate(reached, 1):
        place = track.goal[n - 1]
        axes.add_patch(Circle(tuple(place), track.sizes["goal"], color=COMMITTED, alpha=0.16))
        x, y = place
        text = axes.text(x, y, str(number), ha="center", va="center", fontsize=SMALL, zorder=7)
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    present = Circle(tuple(track.goal[steps]), track.sizes["goal"], color=COMMITTED, alpha=0.6)
    axes.add_patch(present)
    axes.plot([], [], "o", color=COST, alpha=0.5, ms=11, label="hazard")
    axes.plot([], [], "o", color=COMMITTED, alpha=0.6, ms=11, label="goal now")
    axes.plot([], [], "o", color=COMMITTED, alpha=0.16, ms=11, label="goals reached")
    if "vases" in track.objects:
        places = track.objects["vases"][steps]
        axes.plot(*places.T, "s", color=SECOND, ms=9, mec=LIMIT, label="vase", zorder=3)


def _rays(axes: Axes) -> None:
    for n in range(BINS):
        way, middle = 2.0 * np.pi * n / BINS, 2.0 * np.pi * (n + 0.5) / BINS
        axes.plot([0, REACH * np.cos(way)], [0, REACH * np.sin(way)], color=NEUTRAL, lw=0.5)
        x, y = 0.92 * REACH * np.cos(middle), 0.92 * REACH * np.sin(middle)
        axes.text(x, y, str(n), ha="center", va="center", color=NEUTRAL, fontsize=SMALL - 2)
    axes.plot(0, 0, marker=(3, 0, -90), color=LIMIT, ms=16, zorder=5)


def _numbers(axes: Axes, view: View) -> None:
    """All numbers of the observation, one bar each, from the first at the top."""
    for name, span in view.spans.items():
        rows = np.arange(span.start, span.stop)
        color = GROUPS.get(name.removesuffix("_lidar"), NEUTRAL)
        axes.barh(rows, view.obs[span], color=color, height=0.85)
        axes.text(1.03, rows.mean(), name, va="center", color=color, fontsize=SMALL)
    axes.set_xlim(-1.0, 1.0)
    axes.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    axes.set_ylim(len(view.obs) - 0.4, -0.6)
    label(axes, f"The {len(view.obs)} numbers it gets", "value (cut at ±1)", "number")
