"""Pictures of notebook 06: promised and true KL, what a large KL costs, and undone steps."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kfcpo_lib.drift import balanced_rollbacks, share_undone, simulate_drift
from kfcpo_lib.plots.style import (
    COMMITTED,
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
from kfcpo_lib.records import Minibatch

Array = NDArray[np.float64]


def draw_promise(runs: Mapping[str, Sequence[Minibatch]], promised: float) -> Figure:
    """The true KL of every step, beside what it was promised to cost."""
    figure, axes = new_figure(width=8.5, height=4.6)
    looks = zip((ROLLBACK, MARGIN, REWARD), "o^s", strict=True)
    for (name, trials), (color, marker) in zip(runs.items(), looks, strict=False):
        kl = np.array([trial.kl for trial in trials])
        factor = f"{name}: × {np.median(kl) / promised:.1f}"
        axes.plot(np.arange(1, len(kl) + 1), kl, marker, color=color, ms=7, label=factor)
    axes.axhline(promised, color=LIMIT, lw=2, label=rf"promised: $\delta$ = {promised:g}")
    axes.set_yscale("log")
    axes.set_ylim(top=600.0 * promised)
    label(axes, "Promised and true", "step", "true KL of the step (nats)")
    axes.set_xticks(range(0, max(map(len, runs.values())) + 1, 5))
    legend(axes, loc="upper right", ncols=2)
    return figure


def draw_predicted(lines: Mapping[str, tuple[Array, Array]]) -> Figure:
    """True against predicted KL: on the diagonal the quadratic picture is right."""
    figure, axes = new_figure(width=7.0, height=5.0)
    looks = ((REWARD, "o-"), (MARGIN, "s--"), (SECOND, "^-."), (NEUTRAL, "D:"))
    for (name, (predicted, true)), (color, style) in zip(lines.items(), looks, strict=False):
        axes.plot(predicted, true, style, color=color, lw=2, ms=5, label=name)
    ends = [min(p.min() for p, _ in lines.values()), max(p.max() for p, _ in lines.values())]
    axes.plot(ends, ends, color=LIMIT, lw=1.5, label="true = predicted")
    axes.set_xscale("log")
    axes.set_yscale("log")
    label(axes, "The promise holds for small steps", "predicted KL (nats)", "true KL (nats)")
    legend(axes, loc="upper left")
    return figure


def gaussian_kls(shift: float, log_ratio: float) -> dict[str, float]:
    """KL(old || new), KL(new || old) and the prediction, for N(0, 1) and N(shift, exp(ratio)).

    The prediction is half the squared step in the Fisher metric of the old policy, diag(1, 2).
    """
    variance = math.exp(2.0 * log_ratio)
    return {
        "predicted": 0.5 * shift**2 + log_ratio**2,
        "KL(old ‖ new)": log_ratio + 0.5 * ((1.0 + shift**2) / variance - 1.0),
        "KL(new ‖ old)": -log_ratio + 0.5 * (variance + shift**2 - 1.0),
    }


def draw_gaussians(shift: float, log_ratio: float) -> Figure:
    """An old and a new policy in one state, and three numbers for their distance."""
    figure, (left, right) = new_figure(1, 2, width=5.4, height=3.8)
    a, std = np.linspace(-6.0, 6.0, 241), math.exp(log_ratio)
    old, new = _density(a, 0.0, 1.0), _density(a, shift, std)
    left.fill_between(a, old, color=NEUTRAL, alpha=0.3)
    left.plot(a, old, "--", color=NEUTRAL, lw=2, label="old")
    left.plot(a, new, color=COMMITTED, lw=2.5, label="new")
    label(left, "Two policies in one state", "action", "density")
    legend(left, loc="upper left")
    kls = gaussian_kls(shift, log_ratio)
    bars = right.barh(list(kls), list(kls.values()), color=[MARGIN, REWARD, SECOND])
    right.bar_label(bars, [f"{value:.3g}" for value in kls.values()], padding=4, fontsize=12)
    right.set_xlim(0.0, 1.25 * max(*kls.values(), 0.01))
    label(right, "How far apart?", "nats", "")
    return fix_margins(figure, left=0.075, right=0.98, wspace=0.42, bottom=0.18, top=0.9)


def draw_worth(kl: Array, truth: Array, estimates: Array) -> Figure:
    """How much of the data is still worth something, and what the surrogate then promises.

    Args:
        kl: [K] nats. truth: [K] true return. estimates: [S, K] surrogate of S data sets.
    """
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.4)
    left.plot(kl, np.exp(-2.0 * kl), color=REWARD, lw=2.5)
    for limit in (0.01, 0.1, 1.0):
        left.plot(limit, math.exp(-2.0 * limit), "o", color=REWARD, ms=8)
        left.annotate(
            f"{math.exp(-2.0 * limit):.0%}",
            (limit, math.exp(-2.0 * limit)),
            textcoords="offset points",
            xytext=(-38, -16),
            fontsize=12,
        )
    label(left, "Worth of the old data", "KL(old ‖ new), nats", "effective share of the sample")
    right.plot(kl, estimates.T, color=SECOND, lw=1, alpha=0.7)
    right.plot([], [], color=SECOND, label="surrogate, one line a data set")
    right.plot(kl, truth, "--", color=LIMIT, lw=2.5, label="true return")
    label(right, "What it promises", "KL(old ‖ new), nats", "return")
    for axes in (left, right):
        axes.set_xscale("log")
    right.set_ylim(1.2 * truth.min(), 1.0)
    legend(right, loc="lower left")
    return figure


def draw_trials(runs: Mapping[str, Sequence[Minibatch]], kl_limit: float, per_epoch: int) -> Figure:
    """The KL of every trial step against the collecting policy, kept or undone, run by run."""
    figure, axes = new_figure(1, len(runs), width=3.7, height=4.2)
    highest = max(trial.kl for trials in runs.values() for trial in trials)
    lowest = min(trial.kl for trials in runs.values() for trial in trials)
    for panel, (name, trials) in zip(np.atleast_1d(axes), runs.items(), strict=True):
        _trials(panel, trials, kl_limit, per_epoch)
        panel.set_ylim(0.5 * max(lowest, 1e-6), 2.0 * max(highest, kl_limit))
        label(panel, f"{name}\n{share_undone(list(trials)):.0%} undone", "trial step", "")
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("KL to the collecting policy", fontsize=14)
    legend(first, loc="upper right")
    return figure


def draw_limits(shares: Mapping[str, Sequence[float]], kl_limits: Sequence[float]) -> Figure:
    """Share of undone steps against the KL limit, for a fixed and an adaptive delta."""
    figure, axes = new_figure(width=7.0, height=4.4)
    for (name, values), style in zip(shares.items(), ("s--", "o-"), strict=True):
        axes.plot(kl_limits, values, style, color=ROLLBACK, lw=2, ms=8, label=name)
    balance = balanced_rollbacks()
    text = f"balance of an adaptive δ: {balance:.0%}"
    axes.axhline(balance, color=NEUTRAL, ls=":", lw=2, label=text)
    axes.set_ylim(0.0, 1.0)
    axes.set_xticks(list(kl_limits))
    label(axes, "How often is a step undone?", r"KL limit $\epsilon_{KL}$ (nats)", "")
    axes.set_ylabel("share of trial steps", fontsize=14)
    legend(axes, loc="upper right")
    return figure


def draw_delta(runs: Mapping[str, Sequence[Minibatch]], kl_limit: float) -> Figure:
    """The trust-region size over the trial steps; purple: that step was undone."""
    figure, axes = new_figure(width=8.5)
    styles = zip((NEUTRAL, REWARD, MARGIN), ("--", "-", ":"), strict=True)
    for (name, trials), (color, style) in zip(runs.items(), styles, strict=False):
        deltas = np.array([trial.delta for trial in trials])
        undone = np.array([not trial.committed for trial in trials])
        steps = np.arange(1, len(deltas) + 1)
        axes.plot(steps, deltas, style, color=color, lw=2, label=name)
        axes.plot(steps[undone], deltas[undone], "x", color=ROLLBACK, ms=7, mew=2)
    axes.plot([], [], "x", color=ROLLBACK, ms=7, mew=2, label="undone")
    axes.axhline(kl_limit, color=LIMIT, lw=1.5, label=r"KL limit $\epsilon_{KL}$")
    axes.set_yscale("log")
    label(axes, "Stalled, and how an adaptive δ gets out", "trial step", r"$\delta$ (nats)")
    legend(axes, loc="lower left")
    return figure


def draw_drift(
    kl_limit: float, log10_delta: float, adaptive: bool, rollback: str, agreement: float
) -> Figure:
    """A simulated training: KL of the trials on the left, delta on the right."""
    trials = simulate_drift(
        kl_limit, 10.0**log10_delta, adaptive=adaptive, rollback=rollback, agreement=agreement
    )
    figure, (left, right) = new_figure(1, 2, width=5.6, height=3.8)
    _trials(left, trials, kl_limit, 10)
    _decades(left, 1e-6, 10.0)
    label(left, f"{share_undone(trials):.0%} undone", "trial step", "KL to collecting policy")
    legend(left, loc="upper right", ncols=2)
    right.plot([trial.delta for trial in trials], color=REWARD, lw=2)
    right.axhline(kl_limit, color=LIMIT, lw=1.5)
    right.set_yscale("log")
    _decades(right, 1e-6, 1.0)
    label(right, "trust-region size", "trial step", r"$\delta$ (nats)")
    return fix_margins(figure, left=0.09, right=0.98, wspace=0.25, bottom=0.17, top=0.9)


def _trials(axes: Axes, trials: Sequence[Minibatch], kl_limit: float, per_epoch: int) -> None:
    steps = np.arange(1, len(trials) + 1)
    kl = np.array([trial.kl for trial in trials])
    kept = np.array([trial.committed for trial in trials])
    for start in range(0, len(trials) + 1, per_epoch):
        axes.axvline(start + 0.5, color=NEUTRAL, lw=0.8, alpha=0.5)
    axes.plot(steps[kept], kl[kept], "o", color=COMMITTED, ms=6, label="kept")
    axes.plot(steps[~kept], kl[~kept], "x", color=ROLLBACK, ms=7, mew=2, label="undone")
    axes.axhline(kl_limit, color=LIMIT, lw=1.5, label="KL limit")
    axes.set_yscale("log")


def _decades(axes: Axes, low: float, high: float) -> None:
    """Few ticks in plain text: the many of a logarithmic axis take long to draw."""
    ticks = [10.0**power for power in range(-6, 2, 2)]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)


def _density(a: Array, mean: float, std: float) -> Array:
    scaled: Array = np.exp(-0.5 * ((a - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))
    return scaled
