"""Pictures of notebook 04: a flooded town, its policies, and the price of safety."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kfcpo_lib.cmdp import CMDP, MOVES, Array, Solution, occupancy
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

SMALL = FONT_SIZE - 3
SEEN = 1e-3
"""Cells with fewer visits get no arrow."""
COIN = 0.001
"""From this probability on a second action counts as drawn."""


def draw_town(rows: Sequence[str]) -> Figure:
    """The map: start, goal, walls, flooded cells."""
    figure, axes = new_figure(width=8.0, height=4.2)
    _map(axes, rows)
    for x, y, text, color in (
        (6.5, 1.12, "the short wet street", "white"),
        (4.5, 3.12, "the side street, one puddle", "white"),
        (4.5, 4.12, "the long dry way", LIMIT),
    ):
        axes.text(x, y, text, color=color, fontsize=SMALL, ha="center", style="italic")
    return figure


def draw_policies(
    rows: Sequence[str], cmdp: CMDP, policies: Mapping[str, Array], *, width: float = 5.6
) -> Figure:
    """Each policy on the map: visits as shades, actions as arrows, a ring round a coin."""
    figure, axes = new_figure(1, len(policies), width=width, height=0.66 * width)
    for panel, (title, policy) in zip(np.atleast_1d(axes), policies.items(), strict=True):
        _policy(panel, rows, cmdp, policy)
        coin = _coin_words(cmdp, policy, len(rows[0]))
        panel.set_title(f"{title}\n{coin}", fontsize=FONT_SIZE)
    return figure


def draw_visits(rows: Sequence[str], visits: Array, title: str) -> Figure:
    """How often each cell is visited, as shades and numbers; the end state in words."""
    figure, axes = new_figure(width=8.5, height=4.8)
    _map(axes, rows)
    totals = visits.sum(axis=1)
    per_cell, at_the_end = totals[:-1], float(totals[-1])
    corner = len(rows[0]) - 0.5, len(rows) - 0.35
    words = f"in the end state: {at_the_end:.2f}"
    axes.text(*corner, words, ha="right", va="top", fontsize=SMALL)
    _shade(axes, rows, per_cell)
    for cell in np.flatnonzero(per_cell > 0.005):
        row, column = divmod(int(cell), len(rows[0]))
        place = {"ha": "center", "va": "center", "fontsize": SMALL}
        behind = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5}
        axes.text(column, row + 0.32, f"{per_cell[cell]:.2f}", bbox=behind, **place)
    axes.set_title(title, fontsize=FONT_SIZE)
    return figure


def draw_front(
    corners: Sequence[Solution], others: Array, marked: Mapping[str, Solution]
) -> Figure:
    """All policies as (cost, return), the front above them, some of them by name.

    Args:
        corners: the corners of the front by rising cost.
        others: [N, 2] cost and return of other policies.
        marked: name -> solution.
    """
    figure, axes = new_figure(width=8.0, height=4.8)
    axes.plot(*others.T, ".", color=NEUTRAL, alpha=0.45, ms=5, label="some other policies")
    _front(axes, corners)
    for (name, solution), marker in zip(marked.items(), "sD^v", strict=False):
        point = solution.expected_cost, solution.expected_return
        axes.plot(*point, marker, color=COMMITTED, ms=12, mec="white", label=name)
    label(axes, "What can be had", r"expected cost $J_C$", r"expected return $J$")
    legend(axes, loc="lower right")
    return figure


def draw_limit(
    rows: Sequence[str], cmdp: CMDP, corners: Sequence[Solution], limit: float, best: Solution
) -> Figure:
    """A cost limit on the front (left), and the best policy inside it on the map (right)."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.0)
    _front(left, corners)
    _limit_line(left.axvline, limit)
    left.axvspan(limit, 1.08 * corners[-1].expected_cost, color=COST, alpha=0.1, hatch="//")
    left.plot(best.expected_cost, best.expected_return, "D", color=COMMITTED, ms=12, mec="white")
    left.set_xlim(-0.15, 1.08 * corners[-1].expected_cost)
    title = f"J = {best.expected_return:.3f},  price {best.multiplier:.3f}"
    label(left, title, r"expected cost $J_C$", r"expected return $J$")
    legend(left, loc="lower right")
    _policy(right, rows, cmdp, best.policy)
    right.set_title(_coin_words(cmdp, best.policy, len(rows[0])), fontsize=FONT_SIZE)
    return fix_margins(figure, wspace=0.06, right=0.995)


def draw_choice(limits: Array, returns: Array, prices: Array, free_cost: float) -> Figure:
    """How to choose a limit: what it leaves of the return, and what one more unit would bring.

    Args:
        limits: [N] cost limits; `returns` and `prices` [N] belong to them.
        free_cost: the cost of the best policy without a limit.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.2)
    left.plot(limits, 100 * returns / returns.max(), color=REWARD, lw=2.5)
    label(left, "What is left of the return", "cost limit C", "% of the unlimited return")
    right.step(limits, prices, where="post", color=MARGIN, lw=2.5)
    label(right, "What one more unit of C would bring", "cost limit C", r"price $\mu^*$")
    for axes in (left, right):
        low, high = axes.get_ylim()
        axes.axvspan(free_cost, limits.max(), facecolor="none", edgecolor=NEUTRAL, hatch="//")
        middle = 0.5 * (free_cost + limits.max())
        axes.text(
            middle, 0.5 * (low + high), "constrains nothing", rotation=90, ha="center",
            va="center", fontsize=SMALL, bbox={"fc": "white", "ec": "none"},
        )  # fmt: skip
        axes.axvline(free_cost, color=COST, lw=1.5, ls="--")
        axes.set_xlim(0, limits.max())
    return figure


def draw_ruler(corners: Sequence[Solution], limit: float, multiplier: float) -> Figure:
    """A price as a ruler laid on the front (left), and the dual function it makes (right)."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.4)
    costs, returns = _values(corners)
    best = int(np.argmax(returns - multiplier * costs))
    height = returns[best] - multiplier * (costs[best] - limit)
    _front(left, corners)
    reach = np.array([-0.2, 1.08 * costs[-1]])
    ruler = returns[best] + multiplier * (reach - costs[best])
    left.plot(reach, ruler, "--", color=MARGIN, lw=2, label=f"ruler of slope μ = {multiplier:.3f}")
    _limit_line(left.axvline, limit)
    left.plot(costs[best], returns[best], "s", color=COMMITTED, ms=12, mec="white")
    left.plot(limit, height, "o", color=MARGIN, ms=11, mec="black", zorder=5)
    left.set_xlim(*reach)
    left.set_ylim(returns.min() - 0.02, max(returns.max() + 0.09, 0))
    words = "too much cost" if costs[best] > limit else "inside the limit"
    label(left, f"best answer costs {costs[best]:.2f}: {words}", r"expected cost $J_C$", "J")
    legend(left, loc="lower right")
    _dual(right, corners, limit)
    right.plot(multiplier, height, "o", color=MARGIN, ms=11, mec="black", zorder=5)
    return fix_margins(figure, wspace=0.22)


def draw_staircase(corners: Sequence[Solution], limit: float) -> Figure:
    """The cost of the best answer to each fixed price: it jumps over the limit."""
    figure, axes = new_figure(width=7.6, height=4.4)
    costs, returns = _values(corners)
    prices = np.diff(returns) / np.diff(costs)
    edges = np.concatenate([[0.0], prices[::-1], [1.6 * prices[:1].max()]])
    axes.stairs(
        costs[::-1], edges, color=COST, lw=2.5, baseline=None, label="cost of the best answer"
    )
    _limit_line(axes.axhline, limit)
    axes.set_ylim(-0.2, 1.08 * costs[-1])
    label(
        axes, "Every fixed penalty is too little or too much", r"penalty $\mu$ per unit of cost", ""
    )
    axes.set_ylabel(r"expected cost $J_C$", fontsize=FONT_SIZE)
    legend(axes, loc="upper right")
    return figure


def draw_ascent(costs: Array, multipliers: Array, limit: float, price: float) -> Figure:
    """Dual ascent: cost of each answer with its running mean, and the multiplier.

    Args:
        costs: [T] cost of each answer.
        multipliers: [T] the multiplier it answered.
        limit: the cost limit C.
        price: the multiplier of the exact solution.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.0)
    steps = np.arange(1, len(costs) + 1)
    left.plot(steps, costs, ".-", color=COST, lw=0.6, ms=4, alpha=0.7, label="this answer")
    left.plot(steps, np.cumsum(costs) / steps, color=COMMITTED, lw=3, label="mean so far")
    _limit_line(left.axhline, limit)
    left.set_ylim(-0.2, max(5.2, 1.3 * costs.max()))
    label(left, f"mean of all answers: {costs.mean():.2f}", "iteration", r"cost $J_C$")
    legend(left, loc="upper right", ncols=3, fontsize=SMALL - 1)
    right.plot(steps, multipliers, color=MARGIN, lw=1.5, label=r"$\mu_t$")
    right.axhline(price, color=LIMIT, ls=":", lw=2, label=r"exact price $\mu^*$")
    label(right, "The price hunts for its value", "iteration", r"multiplier $\mu$")
    right.set_ylim(0, max(1.6 * price, 1.15 * multipliers.max(), 0.01))
    legend(right, loc="lower right")
    return fix_margins(figure, wspace=0.22)


def draw_episodes(costs: Mapping[str, Array], limit: float) -> Figure:
    """Single episodes' costs of some policies, as shares of all episodes."""
    figure, axes = new_figure(1, len(costs), width=3.7, height=4.0)
    highest = int(max(sample.max() for sample in costs.values()))
    edges = np.arange(-0.5, highest + 1.5)
    for panel, (name, sample) in zip(np.atleast_1d(axes), costs.items(), strict=True):
        share = np.full(len(sample), 100.0 / len(sample))
        panel.hist(sample, edges, weights=share, color=SECOND, edgecolor="white")
        panel.axvline(limit + 0.5, color=LIMIT, lw=2, label=f"above {limit:g} from here")
        panel.axvline(sample.mean(), color=COST, ls="--", lw=2, label=f"mean {sample.mean():.2f}")
        above = 100.0 * (sample > limit).mean()
        label(panel, f"{name}\n{above:.0f} % above {limit:g}", "cost of an episode", "")
        panel.set_ylim(0, 100)
        panel.set_xticks(range(0, highest + 1, 2))
        legend(panel, loc="upper right")
    np.atleast_1d(axes)[0].set_ylabel("% of episodes", fontsize=FONT_SIZE)
    return figure


def coin_cells(cmdp: CMDP, policy: Array) -> list[int]:
    """Visited states in which the policy draws between actions."""
    visited = occupancy(cmdp, policy).sum(axis=1) > SEEN
    random = (policy > COIN).sum(axis=1) > 1
    return [int(cell) for cell in np.flatnonzero(visited & random)]


def _coin_words(cmdp: CMDP, policy: Array, width: int) -> str:
    coins = coin_cells(cmdp, policy)
    if not coins:
        return "no coin: the policy is deterministic"
    chances = policy[coins[0]]
    parts = [f"{name} {p:.0%}" for name, p in zip(MOVES, chances, strict=True) if p > COIN]
    row, column = divmod(coins[0], width)
    return f"coin at row {row}, column {column}: " + ", ".join(parts)


def _values(corners: Sequence[Solution]) -> tuple[Array, Array]:
    pairs = np.array([(corner.expected_cost, corner.expected_return) for corner in corners])
    return pairs[:, 0], pairs[:, 1]


def _front(axes: Axes, corners: Sequence[Solution]) -> None:
    costs, returns = _values(corners)
    axes.locator_params(nbins=6)
    axes.plot(costs, returns, "o-", color=REWARD, lw=2.5, ms=6, label="Pareto front")


def _limit_line(line: object, limit: float) -> None:
    assert callable(line)
    line(limit, color=LIMIT, lw=2, label=f"limit C = {limit:.2f}")


def _dual(axes: Axes, corners: Sequence[Solution], limit: float) -> None:
    costs, returns = _values(corners)
    prices = np.linspace(0.0, 0.14, 141)
    lines = returns[:, None] - prices * (costs[:, None] - limit)
    axes.plot(prices, lines.T, color=NEUTRAL, lw=0.8, alpha=0.6)
    axes.plot([], [], color=NEUTRAL, lw=0.8, label="one line a policy")
    envelope = lines.max(axis=0)
    axes.plot(prices, envelope, color=MARGIN, lw=3, label=r"dual $d(\mu)$: the highest line")
    optimum = float(np.interp(limit, costs, returns))
    axes.axhline(optimum, color=REWARD, ls=":", lw=2, label="constrained optimum")
    axes.set_ylim(optimum - 0.12, optimum + 0.28)
    axes.set_xlim(0, 0.14)
    label(axes, "The dual is never below the optimum", r"multiplier $\mu$", r"$J - \mu\,(J_C - C)$")
    legend(axes, loc="upper right", fontsize=SMALL - 1)


def _map(axes: Axes, rows: Sequence[str]) -> None:
    """The town without colours on its free cells, as nothing has been visited yet."""
    walls, free, flooded = (_cells(rows, letters) for letters in ("#", ".xSG", "x"))
    axes.add_collection(PatchCollection(walls, fc="#444444", ec="#444444"))
    axes.add_collection(PatchCollection(free, fc="none", ec="#BBBBBB", lw=0.8))
    water: dict[str, Any] = {"fc": "none", "ec": COST, "hatch": "...", "lw": 1.8, "zorder": 3}
    axes.add_collection(PatchCollection(flooded, **water))
    for letter, color in (("S", LIMIT), ("G", COMMITTED)):
        for x, y in _places(rows, letter):
            side = -1 if x < len(rows[0]) / 2 else 1  # outside the map, free for rings and arrows
            style: dict[str, Any] = {"fontsize": FONT_SIZE, "weight": "bold", "va": "center"}
            axes.text(x + 0.75 * side, y, letter, color=color, ha="center", **style)
    axes.set_xlim(-1.0, len(rows[0]))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_aspect("equal")
    axes.axis("off")


def _places(rows: Sequence[str], letters: str) -> list[tuple[int, int]]:
    """(column, row) of every cell with one of these letters."""
    return [(x, y) for y, text in enumerate(rows) for x, c in enumerate(text) if c in letters]


def _cells(rows: Sequence[str], letters: str) -> list[Rectangle]:
    return [Rectangle((x - 0.5, y - 0.5), 1, 1) for x, y in _places(rows, letters)]


def _shade(axes: Axes, rows: Sequence[str], visits: Array) -> None:
    shape = (len(rows), len(rows[0]))
    strength = np.sqrt(np.clip(visits.reshape(shape), 0.0, 2.0) / 2.0)
    walls = np.array([[letter == "#" for letter in text] for text in rows])
    shades = np.where(walls, np.nan, strength)
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1.4, zorder=0, aspect="equal")


def _policy(axes: Axes, rows: Sequence[str], cmdp: CMDP, policy: Array) -> None:
    _map(axes, rows)
    visits = occupancy(cmdp, policy).sum(axis=1)[:-1]
    _shade(axes, rows, visits)
    goal = [cell for cell, letter in enumerate("".join(rows)) if letter == "G"]
    shown = [cell for cell in np.flatnonzero(visits > SEEN) if cell not in goal]
    places = [(cell, move) for cell in shown for move in range(4) if policy[cell, move] > COIN]
    cells, moves = np.array(places).T
    chance = policy[cells, moves][:, None]
    sure = chance > 1 - COIN
    steps = np.array(list(MOVES.values()))[moves][:, ::-1]
    reach = np.where(sure, 0.2 + 0.5 * chance, 0.22 + 0.34 * chance) * steps
    tails = np.stack([cells % len(rows[0]), cells // len(rows[0])], axis=1)
    tails = tails + np.where(sure, -reach / 2, 0.16 * steps)  # a coin's arrows keep apart
    tip: dict[str, Any] = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1,
        "width": 0.007,
        "headlength": 3.5,
        "headaxislength": 3.2,
        "zorder": 4,
    }
    axes.quiver(*tails.T, *reach.T, color=LIMIT, **tip)
    for cell in coin_cells(cmdp, policy):
        y, x = divmod(cell, len(rows[0]))
        axes.plot(x, y, "o", ms=6, color=MARGIN, zorder=5)
        axes.plot(x, y, "o", ms=34, mfc="none", mec=MARGIN, mew=3, zorder=3)
