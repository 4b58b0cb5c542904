"""Pictures of notebook 07: the map, one episode, the factors, the plane of a step, the parts."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from numpy.typing import NDArray
from torch import Tensor

from kfcpo_lib.blending import Inner, blend
from kfcpo_lib.envs.toys import GOAL_RADIUS, HALF_WIDTH, HAZARD_RADIUS
from kfcpo_lib.gaussians import mean_kl
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
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Minibatch
from kfcpo_lib.trust_region import move, restore, snapshot

Array = NDArray[np.float64]
SMALL = FONT_SIZE - 3

BOXES: dict[str, tuple[float, float, str, str]] = {
    "worlds": (1.3, 5.9, "worlds\n+ policy", NEUTRAL),
    "rollout": (3.9, 5.9, "rollout\n(§2)", NEUTRAL),
    "critics": (6.5, 5.9, "two critics\nGAE (§2)", NEUTRAL),
    "advantages": (9.1, 5.9, "$A_r,\\ A_c$\n(§2)", NEUTRAL),
    "gradients": (9.1, 3.65, "$g_r,\\ g_c$\n(§3)", REWARD),
    "kfac": (6.5, 3.65, "K-FAC: $\\hat F^{-1}$\n(§3)", REWARD),
    "units": (3.9, 3.65, "$n_r,\\ n_c$\nlength 1 (§4)", REWARD),
    "blend": (1.3, 3.65, "project,\nblend (§4)", COST),
    "step": (1.3, 1.55, "trial step\n$\\theta + \\nu n$ (§5)", LIMIT),
    "check": (3.9, 1.55, "KL $\\leq$\n$\\varepsilon_{KL}$ ? (§5)", LIMIT),
    "commit": (6.5, 2.1, "commit", COMMITTED),
    "rollback": (6.5, 0.95, "rollback,\nto the bit", ROLLBACK),
    "delta": (9.1, 1.55, "$\\delta$: × 1.05\nor × 0.7 (§5)", NEUTRAL),
}
"""Middle of each box of the map, its text and its colour."""
PATH = ("worlds", "rollout", "critics", "advantages", "gradients", "kfac", "units", "blend")
HALF_BOX = 0.95, 0.42


class Plane(NamedTuple):
    """The plane through the policy that its two directions span, in the Fisher metric.

    Coordinates are along n_r, and along what is left of n_c: both of length 1, at right angles.
    """

    reward: Array
    """[2] the unit reward direction, (1, 0)."""
    cost: Array
    """[2] the unit cost direction."""
    axis: Array
    """[m] the grid's coordinates in both directions."""
    kl: Array
    """[m, m] true mean KL at (axis[j], axis[i]), nats."""


def plane_of(
    policy: GaussianPolicy,
    obs: Tensor,
    reward: Tensor,
    cost: Tensor,
    inner: Inner,
    reach: float = 0.25,
    points: int = 19,
) -> Plane:
    """The true KL in the plane of two unit directions [P]; the policy ends as it began."""
    rho = float(inner(reward, cost))
    upright = cost - rho * reward
    upright = upright / inner(upright, upright).sqrt()
    axis = np.linspace(-reach, reach, points)
    kl = _kl_on_grid(policy, obs, reward, upright, axis)
    return Plane(np.array([1.0, 0.0]), np.array([rho, (1 - rho**2) ** 0.5]), axis, kl)


@torch.no_grad()
def _kl_on_grid(
    policy: GaussianPolicy, obs: Tensor, right: Tensor, upright: Tensor, axis: Array
) -> Array:
    parameters = list(policy.parameters())
    before, here = snapshot(parameters), policy(obs).detach()
    kl = np.empty((len(axis), len(axis)))
    for i, y in enumerate(axis):
        for j, x in enumerate(axis):
            move(parameters, float(x) * right + float(y) * upright)
            kl[i, j] = float(mean_kl(here, policy(obs)))
            restore(parameters, before)
    return kl


def kl_at(plane: Plane, point: Array) -> float:
    """The true KL at a point of the plane, between its grid points; infinite outside."""
    if np.abs(point).max() > plane.axis[-1]:
        return float("inf")
    width = plane.axis[1] - plane.axis[0]
    place = (point - plane.axis[0]) / width
    j, i = (min(int(p), len(plane.axis) - 2) for p in place)
    u, v = place - [j, i]
    low = (1 - u) * plane.kl[i, j] + u * plane.kl[i, j + 1]
    high = (1 - u) * plane.kl[i + 1, j] + u * plane.kl[i + 1, j + 1]
    return float((1 - v) * low + v * high)


def draw_map() -> Figure:
    """The components, and the critical path from the rollout to commit or rollback."""
    figure, axes = new_figure(width=10.6, height=7.0)
    frame = FancyBboxPatch((0.1, 0.2), 10.4, 4.35, boxstyle="round,pad=0.05", fill=False)
    frame.set(linestyle="--", edgecolor=NEUTRAL, linewidth=1.5)
    axes.add_patch(frame)
    axes.text(5.2, 4.66, "for each minibatch", ha="center", fontsize=FONT_SIZE, color=NEUTRAL)
    for start, end in itertools.pairwise(PATH):
        _arrow(axes, start, end)
    for start, end in (("blend", "step"), ("step", "check")):
        _arrow(axes, start, end)
    _arrow(axes, "check", "commit", "yes", COMMITTED)
    _arrow(axes, "check", "rollback", "no", ROLLBACK)
    _arrow(axes, "commit", "delta", "", NEUTRAL)
    _arrow(axes, "rollback", "delta", "", NEUTRAL)
    _weights_arrow(axes)
    for x, y, text, color in BOXES.values():
        _box(axes, x, y, text, color)
    axes.set(xlim=(0, 10.6), ylim=(0, 6.9))
    axes.set_axis_off()
    axes.set_title("One epoch of KFCPO", fontsize=FONT_SIZE + 2)
    return figure


def draw_episode(
    obs: Array, advantage: Array, title: str, quantity: str = "advantage of the cost"
) -> Figure:
    """One episode of the point-mass world from above, coloured by an advantage.

    Args:
        obs: [T, 14] raw observations of one episode.
        advantage: [T].
        title: above the picture.
        quantity: what the colour shows.
    """
    figure, axes = new_figure(width=7.2, height=6.0)
    path = obs[:, :2]
    for k in range(4):
        centre = path[0] + obs[0, 6 + 2 * k : 8 + 2 * k]
        disc = Circle(tuple(centre), HAZARD_RADIUS, facecolor=COST, alpha=0.25, hatch="//")
        axes.add_patch(disc)
    goals = np.unique(np.round(path + obs[:, 4:6], 6), axis=0)
    for goal in goals:
        axes.add_patch(Circle(tuple(goal), GOAL_RADIUS, color=COMMITTED, alpha=0.3))
    reach = float(np.abs(advantage).max()) or 1.0
    dots = axes.scatter(*path.T, c=advantage, cmap="PuOr_r", vmin=-reach, vmax=reach, s=22)
    axes.plot(*path[0], "k^", ms=11, label="start")
    axes.plot([], [], "s", color=COST, alpha=0.4, ms=12, label="hazard")
    axes.plot([], [], "o", color=COMMITTED, alpha=0.4, ms=12, label="goal")
    bar = figure.colorbar(dots, ax=axes, shrink=0.8)
    bar.set_label(quantity, fontsize=FONT_SIZE - 1)
    axes.set(xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), aspect="equal")
    label(axes, title, "x", "y")
    legend(axes, loc="upper right")
    return figure


def draw_factors(pairs: Sequence[tuple[Tensor, Tensor]]) -> Figure:
    """Both Kronecker factors of each layer, and how fast their eigenvalues fall."""
    figure, axes = new_figure(2, len(pairs) + 1, width=2.75, height=3.0)
    for column, (input_factor, output_factor) in enumerate(pairs):
        for row, (factor, name) in enumerate(((input_factor, "A"), (output_factor, "G"))):
            panel = axes[row, column]
            values = factor.numpy()
            reach = float(np.abs(values).max())
            panel.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach)
            shape = " × ".join(str(n) for n in values.shape)
            panel.set_title(f"layer {column + 1}: {name}, {shape}", fontsize=SMALL + 1)
            panel.set(xticks=[], yticks=[])
    for row, name in enumerate("AG"):
        panel = axes[row, -1]
        looks = zip(("-", "--", ":"), (NEUTRAL, SECOND, LIMIT), strict=True)
        for layer, (pair, (line, color)) in enumerate(zip(pairs, looks, strict=False), 1):
            values = torch.linalg.eigvalsh(pair[row]).flip(0).clamp(min=1e-12).numpy()
            numbers = np.arange(1, len(values) + 1)
            panel.semilogy(numbers, values, line, lw=2.2, color=color, label=f"layer {layer}")
        panel.set_ylim(1e-8, None)
        label(panel, f"eigenvalues of {name}", "number, largest first", "")
        legend(panel, fontsize=SMALL - 1)
    return figure


def draw_plane(
    plane: Plane,
    cost_weight: float = 0.5,
    log10_delta: float = -2.3,
    kl_limit: float = 0.02,
    conflict: str = "project_cost",
) -> Figure:
    """One trial step in the plane of its two directions, with the predicted and the true KL."""
    figure, axes = new_figure(width=6.4, height=6.4)
    fix_margins(figure, left=0.15, right=0.97, bottom=0.18, top=0.93)
    delta = 10.0**log10_delta
    nu = float(np.sqrt(2.0 * delta))
    step = nu * _unit(_blend(plane, cost_weight, conflict))
    kl = kl_at(plane, step)
    levels = kl_limit * np.array([0.25, 0.5, 1.0, 2.0])
    axes.contourf(plane.axis, plane.axis, plane.kl, levels=[0.0, kl_limit], colors=["#e8f4ee"])
    colors, widths = [NEUTRAL, NEUTRAL, LIMIT, NEUTRAL], [1.0, 1.0, 2.2, 1.0]
    axes.contour(plane.axis, plane.axis, plane.kl, levels, colors=colors, linewidths=widths)
    axes.add_patch(Circle((0, 0), nu, fill=False, ls="--", lw=2, ec=SECOND))
    length = 0.9 * plane.axis[-1]
    _vector(axes, length * plane.reward, REWARD, "$n_r$")
    _vector(axes, length * plane.cost, COST, "$n_c$")
    kept = kl <= kl_limit
    color = COMMITTED if kept else ROLLBACK
    _vector(axes, step, color, "", width=0.016)
    axes.plot(*step, "o" if kept else "X", color=color, ms=13, mec="white", zorder=5)
    reach = plane.axis[-1]
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    verdict = "commit" if kept else "roll back"
    amount = "off the map" if np.isinf(kl) else f"{kl:.4f}"
    label(axes, f"KL predicted {delta:.4f}, true {amount}: {verdict}", "along $n_r$", "")
    axes.set_ylabel("the rest of $n_c$", fontsize=FONT_SIZE, labelpad=0)
    axes.plot([], [], color=LIMIT, lw=2.2, label=r"true KL = $\varepsilon_{KL}$")
    axes.plot([], [], "--", color=SECOND, lw=2, label=r"predicted KL = $\delta$")
    axes.plot([], [], "o" if kept else "X", color=color, ms=10, label=f"step: {verdict}")
    below = {"loc": "upper center", "bbox_to_anchor": (0.47, -0.11), "frameon": False}
    legend(axes, ncols=3, columnspacing=0.9, handletextpad=0.4, **below)
    return figure


def draw_trials(trials: Sequence[Minibatch], kl_limit: float, per_epoch: int) -> Figure:
    """Every trial step of some epochs: its KL, its verdict, and the delta that it was given."""
    figure, (top, bottom) = new_figure(2, 1, width=9.0, height=2.9)
    number = np.arange(1, len(trials) + 1)
    kl = np.array([t.kl for t in trials])
    kept = np.array([t.committed for t in trials])
    top.axhline(kl_limit, color=LIMIT, lw=2, label=r"$\varepsilon_{KL}$")
    top.plot(number[kept], kl[kept], "o", color=COMMITTED, label="commit", ms=7)
    top.plot(number[~kept], kl[~kept], "X", color=ROLLBACK, label="rollback", ms=9)
    top.set_ylim(0, max(1.9 * kl_limit, 1.05 * float(np.nanmax(kl))))
    label(top, "KL from the collecting policy, after each trial step", "", "nats")
    legend(top, loc="upper left", ncols=3)
    bottom.step(number, [t.delta for t in trials], where="mid", color=NEUTRAL, lw=2)
    label(bottom, r"$\delta$ of the trial", "minibatch", "nats")
    for axes in (top, bottom):
        for end in range(per_epoch, len(trials), per_epoch):
            axes.axvline(end + 0.5, color=NEUTRAL, ls=":", lw=1.5)
    return figure


def draw_part(
    runs: Mapping[str, Sequence[pd.DataFrame]], part: str, against: str = "full", window: int = 5
) -> Figure:
    """Return, cost and KL of the runs without one part, beside the runs of another kind."""
    figure, axes = new_figure(1, 3, width=3.7, height=3.8)
    fix_margins(figure, left=0.05, right=0.99, bottom=0.16, top=0.9, wspace=0.22)
    columns = ("return_mean", "episodic_cost_mean", "kl")
    kinds = ((against, NEUTRAL, "--"), (part, COMMITTED, "-"))
    for kind, color, line in kinds[1:] if part == against else kinds:
        for seed, progress in enumerate(runs[kind]):
            for panel, column in zip(axes, columns, strict=True):
                values = moving_average(progress[column].to_numpy(dtype=float), window)
                name = kind.replace("_", " ") if seed == 0 else None
                epochs = progress["epoch"].to_numpy()
                panel.plot(epochs, values, line, color=color, lw=2, label=name)
    progress = runs[part][0]
    limit, margin = float(progress["cost_limit"][0]), float(progress["margin_lambda"][0])
    axes[1].axhline(limit, color=LIMIT, lw=1.5, label="limit C")
    axes[1].axhline(limit * margin, color=MARGIN, ls="--", lw=1.5, label="centre λC")
    axes[2].axhline(float(progress["kl_limit"][0]), color=LIMIT, lw=1.5)
    axes[2].set_yscale("log")
    axes[2].minorticks_off()
    axes[2].yaxis.set_major_formatter("{x:g}")
    for panel, title in zip(axes, ("Return", "Episodic cost", "KL of the epoch"), strict=True):
        label(panel, title, "epoch", "")
    axes[1].set_ylim(bottom=0)
    legend(axes[0], loc="lower right", fontsize=SMALL - 1)
    legend(axes[1], loc="upper right", fontsize=SMALL - 1)
    return figure


def draw_parts(runs: Mapping[str, Sequence[pd.DataFrame]], last: int = 10) -> Figure:
    """Where every kind of run stands in its last epochs: return against cost."""
    figure, axes = new_figure(width=9.5, height=5.6)
    looks = zip("osD^vPX*", _COLOURS, strict=False)
    for (kind, tables), (marker, color) in zip(runs.items(), looks, strict=False):
        ends = [table.tail(last) for table in tables]
        cost = [float(end["episodic_cost_mean"].mean()) for end in ends]
        gain = [float(end["return_mean"].mean()) for end in ends]
        name = kind.replace("_", " ")
        axes.plot(cost, gain, marker, color=color, ms=12, mec="white", label=name)
    limit = float(next(iter(runs.values()))[0]["cost_limit"][0])
    axes.axvline(limit, color=LIMIT, lw=2)
    low = axes.get_ylim()[0]
    axes.text(limit, low, " limit C", fontsize=SMALL, va="bottom")
    axes.set_xlim(left=0)
    title = f"Mean of the last {last} epochs, one marker a seed"
    label(axes, title, "episodic cost (left is safer)", "return (up is better)")
    axes.legend(fontsize=SMALL, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


_COLOURS = (COMMITTED, REWARD, COST, ROLLBACK, MARGIN, SECOND, NEUTRAL, LIMIT)


def _blend(plane: Plane, cost_weight: float, conflict: str) -> Array:
    pair = torch.from_numpy(plane.reward), torch.from_numpy(plane.cost)
    blended: Array = blend(*pair, cost_weight, conflict).numpy()
    return blended


def _unit(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def _vector(axes: Axes, vector: Array, color: str, text: str, width: float = 0.009) -> None:
    tip: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 4}
    axes.quiver(0, 0, *vector, color=color, width=width, **tip)
    if text:
        x, y = 1.07 * vector
        axes.text(x, y, text, color=color, fontsize=FONT_SIZE, ha="center", va="center")


def _box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    half_width, half_height = HALF_BOX
    corner = x - half_width, y - half_height
    box = FancyBboxPatch(corner, 2 * half_width, 2 * half_height, boxstyle="round,pad=0.08")
    box.set(facecolor="white", edgecolor=color, linewidth=2.2, zorder=3)
    axes.add_patch(box)
    axes.text(x, y, text, ha="center", va="center", fontsize=FONT_SIZE + 1, color=LIMIT, zorder=4)


def _arrow(axes: Axes, start: str, end: str, text: str = "", color: str = LIMIT) -> None:
    (x0, y0), (x1, y1) = _edge(start, end), _edge(end, start)
    style = {"arrowstyle": "-|>", "color": color, "lw": 2.4, "mutation_scale": 20}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style, zorder=2)
    if text:
        up = 0.24 if y1 > y0 else -0.36
        axes.text((x0 + x1) / 2 - 0.3, (y0 + y1) / 2 + up, text, color=color, fontsize=FONT_SIZE)


def _edge(box: str, towards: str) -> tuple[float, float]:
    """Where an arrow leaves a box: on the side that faces the other one."""
    (x, y), (x1, y1) = BOXES[box][:2], BOXES[towards][:2]
    half_width, half_height = (half + 0.12 for half in HALF_BOX)
    if x == x1:
        return x, y + half_height * np.sign(y1 - y)
    return x + half_width * np.sign(x1 - x), y


def _weights_arrow(axes: Axes) -> None:
    """The side path: episodic cost to weights."""
    style = {"arrowstyle": "-|>", "color": COST, "lw": 1.8, "mutation_scale": 16}
    style |= {"connectionstyle": "arc3,rad=0.12", "linestyle": "-"}
    axes.annotate("", (1.75, 4.2), (3.6, 5.38), arrowprops=style, zorder=2)
    axes.text(2.1, 4.98, r"$c_{ep} \rightarrow w_c$", color=COST, fontsize=FONT_SIZE, ha="center")
