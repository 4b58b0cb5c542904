"""Pictures of notebook 01: pulls, estimates, credit, GAE, the clock, the surrogate."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kfcpo_lib.bandits import GaussianBandit
from kfcpo_lib.corridor import Array
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
BANDIT = GaussianBandit()
STD = 0.6
"""Standard deviation of the bandit's policy; only its mean is learnt here."""


def reward_of(action: Array) -> Array:
    """The bandit's reward of an action, without noise."""
    return np.asarray(np.exp(-0.5 * ((action - BANDIT.target) / BANDIT.width) ** 2))


def expected_reward(mean: Array | float) -> Array:
    """J of a policy with this mean."""
    return BANDIT.expected_reward(mean, np.log(STD))


def exact_slope(mean: float) -> float:
    """dJ / d mean."""
    return float(BANDIT.gradient(mean, float(np.log(STD)))[0])


def draw_pulls(mean: float, actions: Array, baseline: float) -> Figure:
    """Every sampled action pulls the mean: towards itself if good, away from itself if bad."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.3)
    grid = np.linspace(-2.0, 5.0, 141)
    left.plot(grid, reward_of(grid), color=REWARD, lw=2, label="reward of an action")
    density = np.exp(-0.5 * ((grid - mean) / STD) ** 2)
    left.fill_between(grid, 0.35 * density, color=NEUTRAL, alpha=0.25, label="policy (scaled)")
    left.plot(actions, reward_of(actions), "o", color=LIMIT, ms=5, label="what was tried")
    if baseline:
        left.axhline(baseline, color=MARGIN, ls="--", lw=2, label="baseline")
    label(left, f"{len(actions)} tries", "action", "reward")
    legend(left, loc="upper left", fontsize=SMALL - 1)
    pulls = (reward_of(actions) - baseline) * (actions - mean) / STD**2
    order = np.argsort(actions)
    colors = np.where(pulls[order] >= 0, COMMITTED, COST)
    right.barh(np.arange(len(actions)), pulls[order], color=colors, height=0.7)
    right.axvline(0.0, color=LIMIT, lw=1)
    right.axvline(pulls.mean(), color=MARGIN, lw=3, label=f"their mean {pulls.mean():+.2f}")
    slope = exact_slope(mean)
    right.axvline(slope, color=LIMIT, ls=":", lw=3, label=f"exact gradient {slope:+.2f}")
    label(right, "How each of them pulls the mean", "pull (right: larger mean)", "")
    right.set_yticks([0, len(actions) - 1], ["lowest\naction", "highest\naction"])
    legend(right, loc="lower right", fontsize=SMALL - 1)
    return figure


def draw_estimates(estimates: Mapping[str, Array], exact: float) -> Figure:
    """Many batches' estimates of one gradient, for several ways to estimate it."""
    figure, axes = new_figure(1, len(estimates), width=5.2, height=3.9)
    far = max(np.abs(sample - exact).max() for sample in estimates.values())
    edges = np.linspace(exact - far, exact + far, 61)
    for panel, (name, sample) in zip(np.atleast_1d(axes), estimates.items(), strict=True):
        panel.stairs(*np.histogram(sample, edges), fill=True, color=SECOND)
        panel.axvline(exact, color=LIMIT, ls=":", lw=3, label=f"exact {exact:.2f}")
        panel.axvline(0.0, color=NEUTRAL, lw=1)
        backwards = 100.0 * (sample * exact < 0).mean()
        note = f"std {sample.std():.2f}, wrong way {backwards:.0f} %"
        label(panel, f"{name}\n{note}", "estimate of the gradient", "")
        panel.set_yticks([])
        legend(panel, loc="upper right")
    return fix_margins(figure, left=0.03, top=0.83, bottom=0.18, wspace=0.06)


def draw_corridor(values: Array, advantages: Array, right: Array) -> Figure:
    """The corridor: V per cell above, the advantages of both steps below."""
    figure, (top, bottom) = new_figure(2, 1, width=8.5, height=2.6)
    cells = np.arange(len(right))
    top.bar(cells, values[:-1], color=REWARD, alpha=0.8)
    for side, chances, color in ((1, right, LIMIT), (-1, 1 - right, NEUTRAL)):
        for cell, chance in zip(cells, chances, strict=True):
            tail = cell + 0.1 * side
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 2}
            top.annotate("", (tail + 0.4 * side * chance, 2.5), (tail, 2.5), arrowprops=arrow)
    top.text(len(right) - 0.3, -4, "exit", color=COMMITTED, fontsize=FONT_SIZE, weight="bold")
    top.set_ylim(1.1 * values.min(), 5)
    label(top, "V(s): minus the expected steps to the exit (arrows: policy)", "", "V(s)")
    bottom.bar(cells + 0.2, advantages[:, 1], 0.38, color=COMMITTED, label="A(s, right)")
    bottom.bar(cells - 0.2, advantages[:, 0], 0.38, color=COST, hatch="//", label="A(s, left)")
    bottom.axhline(0.0, color=LIMIT, lw=1)
    bottom.set_ylim(1.15 * advantages.min(), 1.8 * advantages.max())
    label(bottom, "Advantage: how much better than usual", "cell", "advantage")
    legend(bottom, loc="upper right", ncols=2)
    for panel in (top, bottom):
        panel.set_xlim(-0.7, len(right) + 0.4)
        panel.set_xticks(cells)
    return figure


def draw_credit(samples: Mapping[str, Array], exact: Array, batch: int = 20) -> Figure:
    """A batch's gradient, by several ways to give credit: mean and spread in every cell.

    Args:
        samples: name -> [N, L] gradients of single episodes.
        exact: [L] the exact gradient.
        batch: episodes per batch; its spread is sqrt(batch) times smaller than one episode's.
    """
    figure, axes = new_figure(1, len(samples), width=3.7, height=4.0)
    cells = np.arange(len(exact))
    root = batch**0.5
    far = 1.5 * max((np.abs(s.mean(0)) + s.std(0) / root).max() for s in samples.values())
    for panel, (name, sample) in zip(np.atleast_1d(axes), samples.items(), strict=True):
        bars = {"fmt": "o", "color": REWARD, "ms": 7, "capsize": 4, "lw": 1.5}
        panel.errorbar(cells, sample.mean(0), sample.std(0) / root, label="mean ± std", **bars)
        panel.plot(cells, exact, "_", color=LIMIT, ms=18, mew=2.5, label="exact")
        panel.set_ylim(-far, far)
        total = np.sqrt(sample.var(0).sum() / batch)
        label(panel, f"{name}\nspread {total:.1f}", "cell", "")
    legend(np.atleast_1d(axes)[0], loc="lower left")
    np.atleast_1d(axes)[0].set_ylabel("gradient in the cell's logit", fontsize=FONT_SIZE)
    return figure


def draw_gae(lambdas: Array, bias: Array, spread: Array, gae_lambda: float) -> Figure:
    """What GAE adds up (left), and how wrong the gradient is for each lambda (right).

    Args:
        lambdas: [N] values of `gae_lambda`; `bias` and `spread` [N] belong to them.
        gae_lambda: where we stand.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.0)
    steps = np.arange(25)
    left.vlines(steps, 0, gae_lambda**steps, color=SECOND, lw=13)
    title = f"weights of the surprises, gae_lambda = {gae_lambda:.2f}"
    label(left, title, "steps after the action, l", r"$(\gamma\lambda)^l$, with $\gamma = 1$")
    left.set_ylim(0, 1.05)
    error = np.sqrt(bias**2 + spread**2)
    right.plot(lambdas, bias, "--", color=COST, lw=2.5, label="bias: the critic's fault")
    right.plot(lambdas, spread, ":", color=REWARD, lw=3, label="spread: the luck of the batch")
    right.plot(lambdas, error, color=LIMIT, lw=2.5, label="error in all: √(bias² + spread²)")
    here = float(np.interp(gae_lambda, lambdas, error))
    look = {"color": COMMITTED, "ms": 11, "mec": "white"}
    right.plot(gae_lambda, here, "D", zorder=5, label="the λ on the left", **look)
    right.set_ylim(0, max(1.7 * float(error.max()), 0.1))
    label(right, f"error of a batch: {here:.1f}", r"$\lambda$ of GAE (gae_lambda)", "")
    legend(right, loc="upper left", fontsize=SMALL - 1)
    return fix_margins(figure)


def draw_clock(curves: Mapping[str, Array], cells: Array, values: Mapping[str, Array]) -> Figure:
    """The clock taken for an exit: advantages near the clock (left), the critic (right).

    Args:
        curves: two ways to treat the clock, name -> [T] mean advantage at each step of the episode.
        cells: [L] numbers of the cells.
        values: name -> [L] what a critic believes.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.1)
    looks = dict(zip(curves, ((REWARD, "-", "o"), (COST, "--", "s")), strict=True))
    for name, curve in curves.items():
        color, style, _ = looks[name]
        left.plot(np.arange(1, len(curve) + 1), curve, style, color=color, lw=2.5, label=name)
    label(left, "Mean advantage along the episode", "step (the clock rings at the end)", "")
    legend(left, loc="upper left")
    for name, believed in values.items():
        color, style, marker = looks.get(name, (LIMIT, ":", "x"))
        right.plot(cells, believed, style, marker=marker, color=color, lw=2, label=name)
    label(right, "What the critic learns to believe", "cell", "V(s)")
    legend(right, loc="upper left")
    return figure


def draw_surrogate(old: float, new: float, actions: Array, baseline: float) -> Figure:
    """Old data judged for a new mean: sample weights (left), surrogate against truth (right)."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.3)
    grid = np.linspace(-2.5, 6.0, 171)
    for centre, color, style, name in ((old, NEUTRAL, "-", "old"), (new, COMMITTED, "--", "new")):
        density = np.exp(-0.5 * ((grid - centre) / STD) ** 2)
        left.plot(grid, density, style, color=color, lw=2, label=f"{name} policy")
    ratio = ratios(actions, old, new)
    left.scatter(
        actions,
        np.full(len(actions), -0.12),
        s=np.minimum(25 * ratio, 400),
        color=REWARD,
        alpha=0.5,
    )
    effective = ratio.sum() ** 2 / (ratio**2).sum()
    title = f"{len(actions)} samples count like {effective:.0f}"
    label(left, title, "action (dots: sized by the ratio)", "")
    left.set_ylim(-0.3, 1.35)
    left.set_yticks([])
    legend(left, loc="upper left", ncols=2)
    _promise(right, old, new, actions, reward_of(actions) - baseline)
    return fix_margins(figure, left=0.03, wspace=0.16)


def _promise(axes: Axes, old: float, new: float, actions: Array, advantage: Array) -> None:
    """The true J and the surrogate over the new policy's mean."""
    means = np.linspace(-2.0, 4.5, 66)
    start = float(expected_reward(old))

    def promised(mean: float) -> float:
        return start + float(((ratios(actions, old, mean) - 1.0) * advantage).mean())

    axes.plot(means, expected_reward(means), color=LIMIT, lw=2.5, label="true J")
    guess = [promised(float(mean)) for mean in means]
    axes.plot(means, guess, "--", color=REWARD, lw=2.5, label="old J + what L gains")
    axes.plot(old, start, "o", color=NEUTRAL, ms=10, label="data from here")
    here = np.clip(promised(new), -0.35, 1.35)
    axes.plot(new, here, "D", color=COMMITTED, ms=10, mec="white")
    axes.set_ylim(-0.4, 1.4)
    label(axes, "True near the data, a guess far away", "mean of the new policy", "J")
    legend(axes, loc="upper left", fontsize=SMALL - 1)


def ratios(actions: Array, old: float, new: float) -> Array:
    """Likelihood ratios of actions, new over old policy."""
    return np.asarray(np.exp(0.5 * (((actions - old) / STD) ** 2 - ((actions - new) / STD) ** 2)))


def draw_training(
    returns: Sequence[float],
    costs: Sequence[float],
    limit: float,
    chance: Sequence[float] | None = None,
) -> Figure:
    """A training of the return alone: return (left), and the cost that nobody looked at.

    Args:
        returns: mean return of each epoch; `costs` likewise.
        limit: the cost limit.
        chance: half the length of the returns' error bars.
    """
    figure, (left, right) = new_figure(1, 2, width=5.4, height=3.8)
    epochs = np.arange(1, len(returns) + 1)
    left.errorbar(epochs, returns, chance, fmt="o-", color=REWARD, lw=2, capsize=4)
    label(left, "What was asked for", "epoch", "return of an episode")
    right.plot(epochs, costs, "s-", color=COST, lw=2)
    right.axhline(limit, color=LIMIT, lw=2, label="the world's cost limit")
    right.set_ylim(0, 1.15 * max(*costs, limit))
    label(right, "What nobody asked about", "epoch", "cost of an episode")
    legend(right, loc="lower right")
    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
    return figure
