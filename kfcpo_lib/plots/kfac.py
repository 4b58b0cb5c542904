"""Pictures of K-FAC: the matrix and its tiles, where they fit, and what they cost.

K-FAC is green, the exact matrix black, conjugate gradient and the plain gradient sky blue.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from kfcpo_lib.plots.style import (
    COMMITTED,
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
METHODS: dict[str, dict[str, Any]] = {
    "plain gradient": {"color": SECOND, "linestyle": "--", "marker": "o"},
    "diagonal of F": {"color": MARGIN, "linestyle": "-.", "marker": "^"},
    "K-FAC": {"color": COMMITTED, "linestyle": "-", "marker": "s"},
    "exact F": {"color": LIMIT, "linestyle": ":", "marker": "D"},
    "conjugate gradient": {"color": SECOND, "linestyle": "--", "marker": "o"},
    "dense matrix": {"color": LIMIT, "linestyle": ":", "marker": "D"},
}


def matrices(
    pictures: Mapping[str, ArrayLike],
    borders: Sequence[int] = (),
    names: Sequence[str] = (),
    width: float = 3.7,
    logarithmic: bool = True,
) -> Figure:
    """Matrices side by side in one colour scale: red positive, blue negative, white zero.

    Args:
        pictures: title -> [P, P].
        borders: where the layers end, drawn as lines.
        names: of the parts between the borders, written on the first matrix.
        width: inches of one panel.
        logarithmic: whether colours go by the size's logarithm, so that small entries show.
    """
    figure, row = new_figure(1, len(pictures), width=width, height=width)
    arrays = {title: np.asarray(matrix, dtype=float) for title, matrix in pictures.items()}
    top = max(float(np.abs(matrix).max()) for matrix in arrays.values()) or 1.0
    norm: Normalize = SymLogNorm(linthresh=top / 100, vmin=-top, vmax=top)
    if not logarithmic:
        norm = Normalize(-top, top)
    for axes, (title, matrix) in zip(np.atleast_1d(row), arrays.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu_r", norm=norm, interpolation="nearest")
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set(xticks=[], yticks=[])
        for place in borders:
            axes.axhline(place - 0.5, color=LIMIT, linewidth=1)
            axes.axvline(place - 0.5, color=LIMIT, linewidth=1)
    first = np.atleast_1d(row)[0]
    edges = [0, *borders, next(iter(arrays.values())).shape[0]]
    if names:
        middles = [(a + b - 1) / 2 for a, b in itertools.pairwise(edges)]
        first.set_yticks(middles, names, fontsize=FONT_SIZE - 2)
    bar = figure.colorbar(image, ax=np.atleast_1d(row).tolist(), shrink=0.8)
    bar.ax.tick_params(labelsize=FONT_SIZE - 4)
    return figure


def two_blocks(exact: ArrayLike, kronecker: ArrayLike, error: float) -> Figure:
    """One layer's exact block beside G kron A, small and quick enough for an explorer."""
    figure, row = new_figure(1, 2, width=3.7, height=3.7)
    fix_margins(figure, left=0.02, right=0.98, bottom=0.02, top=0.88, wspace=0.06)
    blocks = [np.asarray(block, dtype=float) for block in (exact, kronecker)]
    top = float(np.abs(blocks[0]).max()) or 1.0
    norm = SymLogNorm(linthresh=top / 100, vmin=-top, vmax=top)
    titles = ("exact block", f"G ⊗ A, error {100 * error:.1f} %")
    for axes, block, title in zip(row, blocks, titles, strict=True):
        axes.imshow(block, cmap="RdBu_r", norm=norm, interpolation="nearest")
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set(xticks=[], yticks=[])
    return figure


def error_bars(groups: Mapping[str, Mapping[str, float]]) -> Figure:
    """Relative error per layer, a colour and a hatch per network; zeros are written out."""
    figure, axes = new_figure(width=8.5)
    layers = list(dict.fromkeys(name for group in groups.values() for name in group))
    colours, hatches = (COMMITTED, SECOND, NEUTRAL), ("", "//", "..")
    width = 0.8 / len(groups)
    for i, (network, errors) in enumerate(groups.items()):
        places = np.array([layers.index(name) for name in errors]) + (i + 0.5) * width - 0.4
        values = [100 * e for e in errors.values()]
        look: dict[str, Any] = {"color": colours[i % 3], "hatch": hatches[i % 3]}
        bars = axes.bar(places, values, width, label=network, edgecolor="white", **look)
        words = ["exact" if v < 1e-6 else f"{v:.0f} %" for v in values]
        axes.bar_label(bars, words, fontsize=FONT_SIZE - 3, padding=2, color=colours[i % 3])
    label(axes, "Error of G ⊗ A against the exact block", "", "relative error in %")
    axes.set_xticks(range(len(layers)), layers)
    axes.margins(y=0.15)
    legend(axes)
    return figure


def eigenvalues(exact: Array, products: Array, dampings: Sequence[float]) -> Figure:
    """Eigenvalues of one layer's exact block, and the products g_i a_j that stand for them."""
    figure, axes = new_figure(width=8.0)
    for values, name, style in (
        (exact, "exact block", METHODS["exact F"]),
        (products, "products of eigenvalues of G and A", METHODS["K-FAC"]),
    ):
        falling = np.maximum(np.sort(values.ravel())[::-1], 1e-9)
        axes.semilogy(np.arange(1, len(falling) + 1), falling, label=name, **style, markersize=4)
    for damping, line in zip(dampings, ("--", "-."), strict=False):
        axes.axhline(damping, color=NEUTRAL, linestyle=line, label=f"damping {damping:g}")
    label(axes, "Eigenvalues of one layer", "rank", "eigenvalue")
    legend(axes)
    return figure


def damping_of_directions(eigen: Array, exact: Array, per_factor: Array, damping: float) -> Figure:
    """By which factor each eigendirection is multiplied under two ways of damping."""
    figure, axes = new_figure(width=8.0)
    order = np.argsort(eigen)
    axes.loglog(eigen[order], exact[order], label="1 / (γα + damping): ours", **METHODS["K-FAC"])
    axes.loglog(
        eigen,
        per_factor,
        "^",
        color=MARGIN,
        markersize=6,
        label="1 / ((γ + √damping)(α + √damping))",
    )
    axes.loglog(eigen[order], 1 / eigen[order], color=LIMIT, linestyle=":", label="no damping")
    axes.axvline(damping, color=NEUTRAL, linestyle="--", label="eigenvalue = damping")
    axes.set_ylim(exact.min() / 50, 20 / damping)
    label(axes, "What happens to each direction", "eigenvalue γα", "multiplied by")
    legend(axes, loc="lower left")
    return figure


def quality_curves(dampings: Array, curves: Mapping[str, Sequence[float]]) -> Figure:
    """Step quality against damping, a line per method."""
    figure, axes = new_figure(width=8.0)
    for name, values in curves.items():
        axes.semilogx(dampings, values, label=name, linewidth=2.5, markersize=7, **METHODS[name])
    axes.set_ylim(0, 1.05)
    label(axes, "Gain of a step, as a share of the best one", "damping", "step quality")
    legend(axes, loc="lower left")
    return figure


def convergence(counts: Sequence[int], errors: Array) -> Figure:
    """Error of sampled factors [tries, counts] against the number of samples, log-log."""
    figure, axes = new_figure(width=7.5)
    axes.loglog(counts, errors.T, "o", color=SECOND, markersize=6, alpha=0.5)
    axes.plot([], [], "o", color=SECOND, label="sampled G, one try")
    roots = np.sqrt(np.asarray(counts))
    slope = float((errors * roots).mean()) / roots
    axes.loglog(counts, slope, color=LIMIT, linestyle="--", label="∝ 1 / √samples")
    label(axes, "Sampled against exact G", "actions drawn", "relative error of G")
    legend(axes)
    return figure


def drift(qualities: Sequence[float], errors: Sequence[float]) -> Figure:
    """Step quality and error of the factors while the policy moves on."""
    figure, axes = new_figure(width=7.0, height=4.2)
    fix_margins(figure, left=0.12, right=0.97, bottom=0.16, top=0.84)
    updates = np.arange(1, len(qualities) + 1)
    axes.plot(updates, qualities, "-s", color=COMMITTED, linewidth=2.5, label="step quality")
    axes.plot(updates, errors, "--o", color=REWARD, linewidth=2, label="error of G ⊗ A")
    axes.set_ylim(0, 1.15)
    title = f"mean step quality {np.mean(qualities):.2f}\nmean error {np.mean(errors):.2f}"
    label(axes, title, "update", "share")
    legend(axes, ncols=2, loc="upper right")
    return figure


def map_of_settings(
    quality: Array, rows: Sequence[float], columns: Sequence[float], names: tuple[str, str]
) -> Figure:
    """Mean step quality for each pair of settings, as a map with its numbers."""
    figure, axes = new_figure(width=8.0, height=4.8)
    axes.imshow(quality, cmap="cividis", aspect="auto", vmin=quality.min(), vmax=quality.max())
    middle = (quality.min() + quality.max()) / 2
    best = divmod(int(np.argmax(quality)), quality.shape[1])
    for (i, j), value in np.ndenumerate(quality):
        star = "★ " if (i, j) == best else ""
        colour = "white" if value < middle else "black"
        axes.text(j, i, f"{star}{value:.2f}", ha="center", va="center", color=colour, fontsize=12)
    label(axes, "Mean step quality", names[1], names[0])
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [f"{c:g}" for c in columns])
    axes.set_yticks(range(len(rows)), [f"{r:g}" for r in rows])
    return figure


def cost_growth(sizes: Sequence[int], costs: Mapping[str, Sequence[float]], x: str) -> Figure:
    """Multiplications of each method as a network grows."""
    figure, axes = new_figure(width=7.5)
    for name, values in costs.items():
        axes.loglog(sizes, values, label=name, linewidth=2.5, markersize=7, **METHODS[name])
    label(axes, "What one natural gradient costs", x, "multiplications")
    axes.set_xticks(list(sizes), [str(s) for s in sizes])
    axes.minorticks_off()
    legend(axes)
    return figure


def cost_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The stored benchmark: milliseconds of K-FAC and of conjugate gradient per network."""
    figure, axes = new_figure(width=8.5)
    _bar_pair(axes, rows)
    label(axes, "One update's natural gradients, measured", "hidden layers", "milliseconds")
    axes.set_yscale("log")
    axes.margins(y=0.2)
    names = [f"{row['hidden layers']}\n{row['parameters']:,} parameters" for row in rows]
    axes.set_xticks(range(len(rows)), names, fontsize=FONT_SIZE - 2)
    legend(axes, loc="upper left")
    return figure


def _bar_pair(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(rows))
    for shift, name, colour, hatch in (
        (-0.2, "K-FAC", COMMITTED, ""),
        (0.2, "conjugate gradient", SECOND, "//"),
    ):
        values = [row[f"{name} ms"] for row in rows]
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        bars = axes.bar(places + shift, values, 0.38, label=name, **look)
        axes.bar_label(bars, fmt="%.0f", fontsize=FONT_SIZE - 3, padding=2)
