"""Pictures of distance between policies: KL, Fisher ellipses, steepest ascent, conjugate gradient.

The plain gradient is sky blue and dashed, the natural gradient green and solid, everywhere.
A Gaussian policy is a point (mean, log_std).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from matplotlib.patheffects import withStroke

from kfcpo_lib.bandits import Array, GaussianBandit, gaussian_fisher, gaussian_kl
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

PLAIN: dict[str, Any] = {"color": SECOND, "linestyle": "--", "linewidth": 2.5}
NATURAL: dict[str, Any] = {"color": COMMITTED, "linestyle": "-", "linewidth": 2.5}
Policy = Sequence[float] | Array
"""(mean, log_std)."""
MARKERS = ("o", "s", "^", "D", "v", "P")


def training_curves(
    curves: Mapping[str, Array], title: str, x_label: str, y_label: str, lines: Sequence[str] = ()
) -> Figure:
    """One curve per name; names that contain "natural" in the natural gradient's colour."""
    figure, axes = new_figure(width=7.0)
    styles = lines or ("-", "--", ":", "-.")
    for i, (name, values) in enumerate(curves.items()):
        colour = COMMITTED if "natural" in name else SECOND
        gap = max(len(values) // 10, 2)
        axes.plot(
            values,
            color=colour,
            linestyle=styles[i % len(styles)],
            linewidth=3,
            marker=MARKERS[i % len(MARKERS)],
            markevery=(i * gap // 2, gap),
            markersize=8,
            label=name,
        )
    label(axes, title, x_label, y_label)
    legend(axes)
    return figure


def draw_density(axes: Axes, policy: Policy, x: Array, name: str, old: bool) -> None:
    """The density of one Gaussian policy; the old one grey and dashed, the new one blue."""
    std = np.exp(policy[1])
    density = np.exp(-0.5 * ((x - policy[0]) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    colour, line = (NEUTRAL, "--") if old else (REWARD, "-")
    axes.plot(x, density, color=colour, linestyle=line, linewidth=2.5, label=name)
    axes.fill_between(x, density, color=colour, alpha=0.15)


def density_pair(axes: Axes, old: Policy, new: Policy, title: str) -> None:
    """Two policies on one axis of actions."""
    reach = 3.5 * max(np.exp(old[1]), np.exp(new[1]))
    x = np.linspace(min(old[0], new[0]) - reach, max(old[0], new[0]) + reach, 300)
    draw_density(axes, old, x, "old policy", old=True)
    draw_density(axes, new, x, "new policy", old=False)
    label(axes, title, "action a", "density")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    legend(axes, loc="upper right", ncols=2)


def density_pairs(pairs: Sequence[tuple[Policy, Policy]]) -> Figure:
    """Pairs of policies side by side, each with its two distances."""
    figure, row = new_figure(1, len(pairs), width=5.6)
    for axes, (old, new) in zip(np.atleast_1d(row), pairs, strict=True):
        density_pair(axes, old, new, _distances(old, new))
    return figure


def _distances(old: Policy, new: Policy) -> str:
    length = float(np.linalg.norm(np.subtract(new, old)))
    kl = float(gaussian_kl(np.array(old), np.array(new)))
    return f"parameters moved by {length:.2f}\nKL(old ‖ new) = {kl:.3g} nats"


def kl_pair(mean_shift: float, log_std: float, log_ratio: float) -> Figure:
    """Two policies, and their distances in words: KL both ways, Fisher's, the parameters'."""
    figure, axes = new_figure(width=7.0, height=4.0)
    old, new = np.array([0.0, log_std]), np.array([mean_shift, log_std + log_ratio])
    step = new - old
    quadratic = 0.5 * float(step @ gaussian_fisher(log_std) @ step)
    both = float(gaussian_kl(old, new)), float(gaussian_kl(new, old))
    title = (
        f"‖Δ‖ = {np.linalg.norm(step):.3f}     ½ Δ'FΔ = {quadratic:.3f}\n"
        f"KL(old ‖ new) = {both[0]:.3f}     KL(new ‖ old) = {both[1]:.3f}"
    )
    density_pair(axes, old, new, title)
    return fix_margins(figure, left=0.12, right=0.97, top=0.84)


def kl_against_quadratic(
    sizes: Array, forward: Array, backward: Array, quadratic: Array, title: str
) -> Figure:
    """KL both ways along one direction, and the parabola that Fisher's matrix draws."""
    figure, (wide, close) = new_figure(1, 2, width=5.6)
    near = np.abs(sizes) <= 0.3 * np.abs(sizes).max()
    for axes, part, name in (
        (wide, np.full_like(near, True), "far away they differ ..."),
        (close, near, "... close by they agree"),
    ):
        axes.plot(sizes[part], forward[part], color=REWARD, linewidth=2.5, label="KL(old ‖ new)")
        axes.plot(
            sizes[part], backward[part], color=COST, ls="-.", linewidth=2.5, label="KL(new ‖ old)"
        )
        axes.plot(sizes[part], quadratic[part], color=LIMIT, ls=":", linewidth=2.5, label="½ Δ'FΔ")
        label(axes, name, title, "nats")
        axes.locator_params(axis="x", nbins=5)
        legend(axes, loc="upper center")
    return figure


def score_clouds(clouds: Mapping[str, tuple[Array, Array]]) -> Figure:
    """Clouds of scores [N, 2], each with the ellipse of its Fisher matrix, on common axes."""
    figure, row = new_figure(1, len(clouds), width=3.7, height=4.8)
    for axes, (name, (scores, fisher)) in zip(np.atleast_1d(row), clouds.items(), strict=True):
        axes.scatter(*scores.T, s=8, color=SECOND, alpha=0.5, label="score of one action")
        values, vectors = np.linalg.eigh(fisher)
        angle = np.linspace(0, 2 * np.pi, 200)
        ring = vectors @ (2 * np.sqrt(values)[:, None] * np.array([np.cos(angle), np.sin(angle)]))
        axes.plot(*ring, color=LIMIT, linewidth=2.5, label="ellipse of F, 2 std")
        label(axes, name, "score in the mean", "score in log σ")
        axes.set(xlim=(-8, 8), ylim=(-3, 9))
    names = np.atleast_1d(row)[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, fontsize=FONT_SIZE - 2)
    return figure


def kl_balls(centres: Sequence[Policy], delta: float) -> Figure:
    """In the plane of policies: where KL = delta around each centre, exact and by Fisher."""
    figure, axes = new_figure(width=9.0, height=5.0)
    for mean, log_std in centres:
        centre = np.array([mean, log_std])
        std = np.exp(log_std)
        x, y = np.meshgrid(np.linspace(-4, 4, 81) * std * 0.6, np.linspace(-0.9, 0.9, 81))
        kl = gaussian_kl(centre, centre + np.stack([x, y], axis=-1))
        axes.contourf(mean + x, log_std + y, kl, levels=[-1, delta], colors=[REWARD], alpha=0.25)
        axes.contour(mean + x, log_std + y, kl, levels=[delta], colors=[REWARD], linewidths=2)
        axes.add_patch(fisher_ellipse(mean, log_std, delta))
        axes.plot(mean, log_std, "o", color=LIMIT, markersize=4)
    axes.plot([], [], color=REWARD, linewidth=2, label=f"KL(centre ‖ point) = {delta:g} nats")
    axes.plot([], [], color=LIMIT, ls="--", linewidth=1.8, label="½ Δ'FΔ the same: an ellipse")
    axes.set(xlim=(-3.2, 3.2), ylim=(-2.1, 1.1))
    label(axes, "Equally far, in KL", "mean", "log σ  (narrow below, wide above)")
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def fisher_ellipse(mean: float, log_std: float, delta: float) -> Ellipse:
    """All policies at 1/2 d'Fd = delta from this one."""
    half = np.sqrt(2.0 * delta / np.diag(gaussian_fisher(log_std)))
    return Ellipse(
        (mean, log_std), *(2 * half), fill=False, edgecolor=LIMIT, linestyle="--", linewidth=1.8
    )


def steepest_ascent(policy: Policy, gradient: Array, delta: float) -> Figure:
    """Where the ball touches the highest line of the gradient: ball of parameters, ball of KL."""
    figure, row = new_figure(1, 2, width=5.4, height=5.0)
    fisher = gaussian_fisher(policy[1])
    radius = float(np.sqrt(2 * delta / np.sqrt(np.linalg.det(fisher))))
    plain = radius * gradient / np.linalg.norm(gradient)
    natural = np.linalg.solve(fisher, gradient)
    natural *= np.sqrt(2 * delta / (gradient @ natural))
    ball = Circle((policy[0], policy[1]), radius, fill=False, edgecolor=LIMIT, ls="--", linewidth=2)
    reach = 1.35 * max(radius, *np.sqrt(2 * delta / np.diag(fisher)))
    for axes, patch, step, name, style in (
        (row[0], ball, plain, "ball of parameters → plain gradient", PLAIN),
        (
            row[1],
            fisher_ellipse(policy[0], policy[1], delta),
            natural,
            "ball of KL → natural gradient",
            NATURAL,
        ),
    ):
        _lines_of_gain(axes, policy, gradient, reach)
        axes.add_patch(patch)
        _arrow(axes, policy, step, str(style["color"]))
        label(axes, name, "mean", "log σ")
        axes.locator_params(nbins=5)
        axes.set_aspect("equal")
    return figure


def _lines_of_gain(axes: Axes, policy: Policy, gradient: Array, reach: float) -> None:
    x, y = np.meshgrid(np.linspace(-reach, reach, 41), np.linspace(-reach, reach, 41))
    gain = gradient[0] * x + gradient[1] * y
    axes.contourf(policy[0] + x, policy[1] + y, gain, levels=14, cmap="cividis", alpha=0.75)


def _arrow(axes: Axes, start: Policy, step: Array, colour: str) -> None:
    arrow: dict[str, Any] = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 3.5,
        "mutation_scale": 28,
    }
    outline = [withStroke(linewidth=7, foreground="white")]
    whole = arrow | {"shrinkA": 0, "shrinkB": 0, "path_effects": outline}
    end = (start[0] + step[0], start[1] + step[1])
    axes.annotate("", xy=end, xytext=(start[0], start[1]), arrowprops=whole)
    axes.plot(*start, "o", color=LIMIT, markersize=8)


def landscape(paths: Mapping[str, Array], mark_every: int = 20, title: str = "") -> Figure:
    """Paths of policies uphill on the bandit's landscape; a marker every `mark_every` steps."""
    figure, axes = new_figure(width=8.0, height=4.8)
    _terrain(axes)
    for i, (name, path) in enumerate(paths.items()):
        draw_path(axes, path, name, i, mark_every)
    label(axes, title, "mean", "log σ")
    legend(axes, loc="lower right")
    return figure


def _terrain(axes: Axes) -> None:
    x, y = np.meshgrid(np.linspace(-1.0, 4.5, 45), np.linspace(-3.0, 1.5, 35))
    value = GaussianBandit().expected_reward(x, y)
    axes.contourf(x, y, value, levels=10, cmap="Greys", alpha=0.7)
    axes.set(xlim=(-1.0, 4.5), ylim=(-3.0, 1.5))


def draw_path(axes: Axes, path: Array, name: str, number: int, mark_every: int) -> None:
    """One path; the natural gradient's in its own colour, its number told by the marker."""
    style = NATURAL if "natural" in name else PLAIN
    marker = MARKERS[number % len(MARKERS)]
    size = 13 - 2.5 * number if "natural" not in name else 15 - 2.5 * number
    marks: dict[str, Any] = {
        "markevery": mark_every,
        "markersize": max(size, 4),
        "markeredgecolor": LIMIT,
    }
    axes.plot(*path.T, marker=marker, label=name, **marks, **style)


def one_path(path: Array, name: str, mark_every: int = 10) -> Figure:
    """One path on the landscape; what it earns, and the most KL that one of its steps spent."""
    figure, axes = new_figure(width=7.0, height=4.4)
    _terrain(axes)
    draw_path(axes, path, name, 0, mark_every)
    axes.plot(*path[-1], "*", color=LIMIT, markersize=18, label="last policy")
    reward = float(GaussianBandit().expected_reward(*path[-1]))
    largest = float(gaussian_kl(path[:-1], path[1:]).max())
    title = f"expected reward {reward:.3f} after {len(path) - 1} steps\n"
    label(axes, title + f"largest KL of a step: {largest:.2g} nats", "mean", "log σ")
    legend(axes, loc="upper left")
    return fix_margins(figure, left=0.12, right=0.97, top=0.84)


def simplex_paths(paths: Mapping[str, Sequence[Array]], rewards: Sequence[float]) -> Figure:
    """Paths of a softmax policy over three actions on their triangle, a panel per name."""
    figure, row = new_figure(1, len(paths), width=5.2, height=4.8)
    corners = np.array([[0.5, np.sqrt(0.75)], [1.0, 0.0], [0.0, 0.0]])
    grid = np.linspace(0, 1, 40)
    mix = np.array([(a, b, 1 - a - b) for a in grid for b in grid if a + b <= 1 + 1e-9])
    for axes, (name, group) in zip(np.atleast_1d(row), paths.items(), strict=True):
        axes.tricontourf(*(mix @ corners).T, mix @ np.array(rewards), levels=12, cmap="Greys")
        for path in group:
            style = NATURAL if "natural" in name else PLAIN
            axes.plot(*(path @ corners).T, marker="o", markersize=5, **style)
            axes.plot(*(path[0] @ corners), "s", color=LIMIT, markersize=8)
        for corner, reward, offset in zip(corners, rewards, (0.04, -0.09, -0.09), strict=True):
            words = f"reward {reward:g}"
            axes.text(corner[0], corner[1] + offset, words, ha="center", fontsize=FONT_SIZE - 1)
        axes.set(xlim=(-0.14, 1.14), ylim=(-0.12, 0.98))
        axes.set_title(name, fontsize=FONT_SIZE + 1)
        axes.set_aspect("equal")
        axes.axis("off")
    return figure


def spectrum(eigenvalues: Array, dampings: Sequence[float]) -> Figure:
    """Eigenvalues of a Fisher matrix in falling order, and where dampings cut in."""
    figure, axes = new_figure(width=7.5)
    values = np.maximum(np.sort(eigenvalues)[::-1], 1e-9)
    axes.semilogy(np.arange(1, len(values) + 1), values, color=COMMITTED, linewidth=3)
    for damping, line in zip(dampings, ("--", ":", "-."), strict=False):
        axes.axhline(damping, color=LIMIT, linestyle=line, label=f"damping {damping:g}")
    label(axes, "Eigenvalues of the Fisher matrix", "rank", "eigenvalue")
    legend(axes)
    return figure


def residuals(curves: Mapping[str, Array]) -> Figure:
    """Length of the residual, relative to the start, iteration by iteration."""
    figure, axes = new_figure(width=7.5)
    for i, (name, values) in enumerate(curves.items()):
        colour = COMMITTED if "conjugate" in name else SECOND
        style = ("-", "--", ":", "-.")[i % 4]
        axes.semilogy(values, color=colour, linestyle=style, linewidth=3, label=name)
    label(axes, "How fast the equation gets solved", "Fisher-vector products", "residual / start")
    legend(axes)
    return figure


def valley(matrix: Array, target: Array, paths: Mapping[str, Array]) -> Figure:
    """Iterates [n + 1, 2] of solvers on the bowl 1/2 x'Mx - target'x, with Mx = t at the bottom."""
    figure, axes = new_figure(width=7.0, height=4.4)
    bottom = np.linalg.solve(matrix, target)
    x, y = np.meshgrid(np.linspace(-0.4, 1.62, 41), np.linspace(-0.42, 0.6, 31))
    points = np.stack([x, y], axis=-1)
    height = 0.5 * np.einsum("...i,ij,...j", points, matrix, points) - points @ target
    depth = height - height.min() + 1e-3
    axes.contourf(x, y, np.log(depth), levels=10, cmap="Greys_r", alpha=0.6)
    for i, (name, path) in enumerate(paths.items()):
        style = NATURAL if "conjugate" in name else PLAIN
        marker: dict[str, Any] = {"marker": MARKERS[i], "markersize": 8, "markeredgecolor": LIMIT}
        axes.plot(*path.T, label=name, **marker, **style)
    axes.plot(*bottom, "*", color=LIMIT, markersize=18, label="solution")
    label(axes, "Two ways down the same bowl", "x₁", "x₂")
    axes.set(xlim=(-0.4, 1.62), ylim=(-0.42, 0.6))
    legend(axes, loc="upper left")
    return fix_margins(figure, left=0.12, right=0.97, top=0.84)


def gain_bars(gains: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Per direction: gains on the data it was computed from, and on other data (a dot a split)."""
    figure, axes = new_figure(width=9.0, height=4.6)
    places = np.arange(len(gains))
    for shift, index, colour, hatch, name in (
        (-0.2, 0, NEUTRAL, "//", "steps that the gradient has seen"),
        (0.2, 1, REWARD, "", "unseen steps"),
    ):
        values = [pair[index] for pair in gains.values()]
        means = [float(np.mean(v)) for v in values]
        bars: dict[str, Any] = {"width": 0.38, "alpha": 0.6, "hatch": hatch, "edgecolor": "white"}
        axes.bar(places + shift, means, color=colour, label=name, **bars)
        for place, dots in zip(places, values, strict=True):
            axes.plot(np.full(len(dots), place + shift), dots, "o", color=LIMIT, markersize=4)
    label(axes, "Gain of one step, all with the same KL", "", "gain of the surrogate")
    axes.set_xticks(places, list(gains), fontsize=FONT_SIZE - 2)
    legend(axes)
    return figure
