"""Pictures of notebook 05: two directions, their weights, and where the cost comes to rest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from kfcpo_lib.blending import blend, margin_weights, resolve_conflict
from kfcpo_lib.controllers import Budget, Trace, weight_noise
from kfcpo_lib.plots.style import (
    COMMITTED,
    COST,
    FONT_SIZE,
    LIMIT,
    MARGIN,
    NEUTRAL,
    REWARD,
    SECOND,
    fix_margins,
    label,
    legend,
    new_figure,
)

Array = NDArray[np.float64]
SMALL = FONT_SIZE - 3


def draw_conflict(angle: float = 125.0) -> Figure:
    """The two unit directions, and the half-planes in which each of them does harm."""
    figure, axes = new_figure(width=6.4, height=5.2)
    reward, cost = unit_pair(angle)
    _harm(axes, cost, COST, "////", "cost rises")
    _harm(axes, reward, REWARD, "\\\\\\\\", "return falls")
    _arrow(axes, reward, REWARD, "reward")
    _arrow(axes, cost, COST, "cost")
    _square(axes, 1.45)
    label(axes, f"Two wishes, {angle:.0f}° apart", "parameter 1", "parameter 2")
    legend(axes, loc="lower right")
    return figure


def unit_pair(angle: float) -> tuple[Array, Array]:
    """Two unit vectors, mirror images of each other, `angle` degrees apart; reward on the right."""
    half = math.radians(angle) / 2.0
    right = np.array([math.sin(half), math.cos(half)])
    return right, right * [-1.0, 1.0]


def draw_weights(
    margin_lambda: float, steepness_k: float, episodic_cost: float, cost_limit: float = 20.0
) -> Figure:
    """Both weights over the episodic cost, and where we stand."""
    figure, axes = new_figure(width=7.0)
    _weights(axes, margin_lambda, steepness_k, episodic_cost, cost_limit)
    return figure


def draw_blending(
    margin_lambda: float,
    log10_k: float,
    episodic_cost: float,
    angle: float,
    conflict: str = "project_cost",
    cost_limit: float = 20.0,
) -> Figure:
    """The weights on the left; what they make of the two directions on the right."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.4)
    steepness_k = 10.0**log10_k
    _weights(left, margin_lambda, steepness_k, episodic_cost, cost_limit)
    _, cost_weight = margin_weights(episodic_cost, cost_limit, margin_lambda, steepness_k)
    _blend_picture(right, angle, cost_weight, conflict)
    return fix_margins(figure, left=0.07, wspace=0.1, bottom=0.16, top=0.92)


def draw_blend(angle: float, cost_weight: float, conflicts: Sequence[str]) -> Figure:
    """The same two directions, blended after each way to resolve their conflict."""
    columns = min(2, len(conflicts))
    figure, axes = new_figure(-(-len(conflicts) // columns), columns, width=5.2, height=3.9)
    panels = np.atleast_1d(axes).ravel()
    for panel in panels[len(conflicts) :]:
        panel.set_axis_off()
    for panel, conflict in zip(panels, conflicts, strict=False):
        _blend_picture(panel, angle, cost_weight, conflict)
    return figure


def draw_metric(stretch: float, angle: float) -> Figure:
    """Two directions as parameters show them, and as the policy feels them.

    The Fisher matrix is diag(stretch^2, 1): moving along parameter 1 changes the policy more.
    """
    figure, (left, right) = new_figure(1, 2, width=5.0, height=4.8)
    reward, cost = unit_pair(angle)
    scale = np.array([stretch, 1.0])
    left.add_patch(Ellipse((0, 0), 2 / stretch, 2, fill=False, ec=NEUTRAL, ls=":", lw=2))
    right.add_patch(Ellipse((0, 0), 2, 2, fill=False, ec=NEUTRAL, ls=":", lw=2))
    felt = [v * scale / np.linalg.norm(v * scale) for v in (reward, cost)]
    for axes, pair, title in (
        (left, (reward, cost), "Parameters, as numbers"),
        (right, felt, "Parameters, as the policy feels them"),
    ):
        _arrow(axes, pair[0], REWARD, "reward")
        _arrow(axes, pair[1], COST, "cost")
        _square(axes, 1.45)
        cosine = float(pair[0] @ pair[1])
        verdict = "no conflict" if cosine >= 0 else "conflict"
        label(axes, f"{title}\ncosine {cosine:+.2f}: {verdict}", "", "")
    left.set_xlabel("parameter 1", fontsize=FONT_SIZE)
    left.set_ylabel("parameter 2", fontsize=FONT_SIZE)
    right.set_xlabel(f"parameter 1 × {stretch:g}", fontsize=FONT_SIZE)
    return fix_margins(figure, left=0.08, wspace=0.16, bottom=0.13, top=0.87)


def draw_controllers(traces: Mapping[str, Trace], cost_limit: float, centre: float) -> Figure:
    """Cost (above) and cost weight (below) over the epochs, one column a controller."""
    figure, axes = new_figure(2, len(traces), width=2.8, height=2.9)
    for column, (name, trace) in zip(axes.T, traces.items(), strict=True):
        _cost_curve(column[0], trace, cost_limit, centre)
        label(column[0], name.replace(": ", ":\n"), "", "episodic cost")
        column[1].plot(trace.cost_weight, color=COST, lw=1.8)
        column[1].set_ylim(-0.05, 1.05)
        label(column[1], "", "epoch", r"cost weight $w_c$")
    for row in axes:
        for panel in row[1:]:
            panel.set_ylabel("")
    legend(axes[0, -1], loc="upper right")
    return figure


def draw_controller(trace: Trace, cost_limit: float, centre: float, title: str) -> Figure:
    """One controller: what it did to the cost, what it was told, and the weight it chose."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=3.8)
    if trace.estimate != trace.cost:
        left.plot(trace.estimate, ".", color=NEUTRAL, ms=3, alpha=0.7, label="estimate")
    _cost_curve(left, trace, cost_limit, centre)
    label(left, title, "epoch", "episodic cost")
    legend(left, loc="upper right", ncols=2)
    right.plot(trace.cost_weight, color=COST, lw=1.5)
    right.set_ylim(-0.05, 1.05)
    settled = trace.settled()
    note = f"second half: cost {settled.mean():.1f} ± {settled.std():.1f}"
    label(right, note, "epoch", r"cost weight $w_c$")
    return fix_margins(figure, left=0.07, wspace=0.2, bottom=0.17, top=0.91)


def draw_shore(traces: Mapping[str, Trace], limit_line: float) -> Figure:
    """The paths of some policies along the shore, seen from above."""
    figure, axes = new_figure(width=9.5, height=4.8)
    axes.axhspan(0.0, 0.6, color=SECOND, alpha=0.35)
    axes.text(0.2, 0.25, "water", color=REWARD, fontsize=FONT_SIZE, style="italic")
    axes.axhline(limit_line, color=LIMIT, lw=1.5, label="cost limit C")
    styles = zip((REWARD, MARGIN, NEUTRAL, COMMITTED), ("-", "--", ":", "-"), strict=True)
    for (name, trace), (color, style) in zip(traces.items(), styles, strict=False):
        path = np.array(trace.theta)
        axes.plot(path[:, 0], path[:, 1], style, color=color, lw=2, label=name)
    axes.set_ylim(-2.7, 0.6)
    label(axes, "Four policies walk along the shore", r"$\theta_1$ (in standard deviations)", "")
    axes.set_ylabel(r"$\theta_2$, distance from the water", fontsize=FONT_SIZE)
    legend(axes, loc="lower right")
    return figure


def draw_rest(
    cases: Mapping[str, tuple[float, float]],
    margin_lambda: float,
    steepness_k: float,
    cost_limit: float,
) -> Figure:
    """Where the cost rests: the margin weight's curve meets the weight that the task asks for.

    Args:
        cases: name -> (w* by theory, cost at rest as measured).
    """
    figure, axes = new_figure(width=8.0, height=4.8)
    costs = np.linspace(0.0, 2.0 * cost_limit, 200)
    curve = [margin_weights(c, cost_limit, margin_lambda, steepness_k)[1] for c in costs]
    axes.plot(costs, curve, color=COST, lw=2.5, label=r"$w_c$ that KFCPO gives")
    for (name, (rest_at, measured)), marker in zip(cases.items(), "osD^v", strict=False):
        axes.axhline(rest_at, color=NEUTRAL, ls=":", lw=1.5)
        axes.text(0.4, rest_at + 0.015, f"$w^*$ {name}", fontsize=SMALL, color=NEUTRAL)
        axes.plot(measured, rest_at, marker, color=COMMITTED, ms=11, mec="white")
    axes.plot([], [], "o", color=COMMITTED, ms=10, label="measured rest")
    _limits(axes.axvline, cost_limit, margin_lambda * cost_limit)
    label(axes, "The cost rests where the curve meets the task's own line", "", "cost weight")
    axes.set_xlabel("episodic cost", fontsize=FONT_SIZE)
    legend(axes, loc="lower right")
    return figure


def draw_noise(
    steepness: Sequence[float],
    swing: Sequence[float],
    offset: Sequence[float],
    without_noise: Sequence[float],
    cost_noise: float,
) -> Figure:
    """The price of steepness and of its lack: flipping weights, and a cost far from its centre.

    Args:
        steepness: values of k.
        swing, offset: std of the true cost, and |its mean - lambda C|, both measured, for each k.
        without_noise: the offset that theory gives for a cost that is known exactly.
        cost_noise: standard deviation of c_ep.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.4)
    fine = np.geomspace(min(steepness), max(steepness), 80)
    low, high = zip(*(weight_noise(k, 0.5, cost_noise) for k in fine), strict=True)
    left.fill_between(fine, low, high, color=COST, alpha=0.3, label="90 % of the epochs")
    left.axhline(0.5, color=COST, lw=2, label=r"without noise, at $\lambda C$")
    label(left, rf"$c_{{ep}}$ has a std of {cost_noise:.1f}", "k per unit of cost", "")
    left.set_ylabel(r"cost weight $w_c$", fontsize=FONT_SIZE)
    right.plot(steepness, swing, "o-", color=COST, lw=2, label="swing: std of the true cost")
    right.plot(steepness, offset, "s-", color=MARGIN, lw=2, label=r"offset from $\lambda C$")
    right.plot(steepness, without_noise, "--", color=MARGIN, lw=2, label="offset without noise")
    label(right, "Two ways to be wrong", "k per unit of cost", "episodic cost")
    for axes in (left, right):
        axes.set_xscale("log")
    right.set_yscale("log")
    left.set_ylim(-0.3, 1.05)
    left.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    legend(left, loc="lower right")
    legend(right, loc="best")
    return figure


def draw_budget(budget: Budget) -> Figure:
    """Every step pays; the sum of the payments cannot exceed the distance at the start."""
    figure, axes = new_figure(width=8.0, height=4.4)
    zone, paid = np.array(budget.zone), np.cumsum(budget.paid)
    steps = np.arange(1, len(paid) + 1)
    axes.axhline(budget.start, color=LIMIT, lw=2, label=r"budget: $\|\theta_0-\theta^*\|^2$")
    axes.plot(steps, paid, color=NEUTRAL, lw=1)
    looks = ((REWARD, "o", "reward step"), (COMMITTED, "s", "mixed step"), (COST, "^", "cost step"))
    for which, (color, marker, name) in enumerate(looks):
        here = zone == which
        axes.plot(steps[here], paid[here], marker, color=color, ms=5, label=f"{name}: {here.sum()}")
    label(axes, "What the steps have paid so far", "step", "paid (squared distance)")
    legend(axes, loc="lower right")
    return figure


def _weights(
    axes: Axes, margin_lambda: float, steepness_k: float, episodic_cost: float, cost_limit: float
) -> None:
    costs = np.linspace(0.0, 2.0 * cost_limit, 161)
    weights = [margin_weights(c, cost_limit, margin_lambda, steepness_k) for c in costs]
    reward, cost = np.array(weights).T
    axes.plot(costs, reward, "--", color=REWARD, lw=2.5, label=r"$w_r$")
    axes.plot(costs, cost, color=COST, lw=2.5, label=r"$w_c$")
    _limits(axes.axvline, cost_limit, margin_lambda * cost_limit)
    here = margin_weights(episodic_cost, cost_limit, margin_lambda, steepness_k)
    axes.plot([episodic_cost] * 2, here, "o", color=COMMITTED, ms=9, mec="white")
    title = f"k = {steepness_k:.3g}:  $w_r$ = {here[0]:.2f},  $w_c$ = {here[1]:.2f}"
    label(axes, title, r"episodic cost $c_{ep}$", "weight")
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xticks(np.linspace(0.0, 2.0 * cost_limit, 5))
    legend(axes, loc="center right", fontsize=SMALL)


def _limits(line: Any, cost_limit: float, centre: float) -> None:
    line(cost_limit, color=LIMIT, lw=1.5, label="limit C")
    line(centre, color=MARGIN, lw=1.8, ls="--", label=r"centre $\lambda C$")


def _blend_picture(axes: Axes, angle: float, cost_weight: float, conflict: str) -> None:
    reward, cost = unit_pair(angle)
    tensors = torch.from_numpy(reward), torch.from_numpy(cost)
    changed = [v.numpy() for v in resolve_conflict(*tensors, cost_weight, conflict)]
    blended = blend(*tensors, cost_weight, conflict).numpy()
    for before, after, color in zip((reward, cost), changed, (REWARD, COST), strict=True):
        if not np.allclose(before, after):
            axes.plot(*np.array([before, after]).T, ":", color=NEUTRAL, lw=1.5)
            _arrow(axes, after, color, "", width=0.008, ls="--", alpha=0.9)
    _arrow(axes, reward, REWARD, "reward")
    _arrow(axes, cost, COST, "cost")
    _arrow(axes, blended, COMMITTED, "blend", width=0.022, inside=True)
    _square(axes, 1.45)
    axes.set_ylim(-0.25, 1.35)
    gain, relief = blended @ reward, blended @ cost
    label(axes, conflict, f"return {gain:+.2f}, safety {relief:+.2f}", "")


def _arrow(
    axes: Axes,
    vector: Array,
    color: str,
    text: str,
    *,
    width: float = 0.014,
    inside: bool = False,
    **options: Any,
) -> None:
    if np.linalg.norm(vector) < 1e-9:
        return
    tip: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1}
    tip |= {"zorder": 4 if inside else 3, "color": color, "width": width}
    axes.quiver(0, 0, vector[0], vector[1], **tip, **options)
    above, beyond = np.array([0.0, 1.0]), vector / np.linalg.norm(vector)
    x, y = vector + np.array([0.27, 0.17]) * (above if inside else beyond)
    axes.text(x, y, text, color=color, ha="center", va="center", fontsize=FONT_SIZE - 1)


def _harm(axes: Axes, direction: Array, color: str, hatch: str, text: str) -> None:
    across = 4.0 * np.array([-direction[1], direction[0]])
    far = -4.0 * direction
    corners = np.array([across, -across, -across + far, across + far])
    axes.fill(*corners.T, facecolor=color, alpha=0.13, hatch=hatch, edgecolor=color, label=text)


def _square(axes: Axes, half: float) -> None:
    axes.set_xlim(-half, half)
    axes.set_ylim(-half, half)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.set_aspect("equal")


def _cost_curve(axes: Axes, trace: Trace, cost_limit: float, centre: float) -> None:
    axes.plot(trace.cost, color=COST, lw=2, label="cost")
    _limits(axes.axhline, cost_limit, centre)
    axes.set_ylim(0, max(2.0 * cost_limit, 1.35 * max(trace.cost)))
