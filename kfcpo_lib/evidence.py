"""Statistics of few seeds, after Agarwal et al. (2021), and the numbers that safety asks for.

*Deep reinforcement learning at the edge of the statistical precipice*, NeurIPS 2021. Scores come in
strata, one array a task, one number a seed (or an episode). The bootstrap draws anew within each
stratum, so every task keeps its weight. Of few seeds its interval is too narrow; means, and
differences of means, have Student's and Welch's instead, which know how few there are.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Strata = Sequence[Array]


class Interval(NamedTuple):
    """A confidence interval; NaN where there is too little data for one."""

    low: float
    high: float


def interquartile_mean(scores: Any, axis: int | None = None) -> Any:
    """Mean of the middle half: a quarter of the scores is cut off at either end.

    As robust as the median against one lucky seed, and steadier. A quarter that is no whole number
    is rounded down.
    """
    return stats.trim_mean(scores, 0.25, axis=axis)


def mean(scores: Any, axis: int | None = None) -> Any:
    """Plain mean, for `bootstrap_interval`."""
    return np.mean(scores, axis=axis)


def bootstrap_interval(
    strata: Strata,
    statistic: Callable[..., Any] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of all scores, drawn anew within each stratum.

    Args:
        strata: [seeds] scores of each task; NaN everywhere if one has a single score.
        statistic: called as `statistic(scores, axis=-1)` on the strata put together.
        confidence: share of repetitions of the whole experiment that should cover the truth. With
            five seeds it is nearer to 0.85 than to 0.95: too few to know their own spread.
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """

    def together(*samples: Array, axis: int) -> Any:
        return statistic(np.concatenate(samples, axis=axis), axis=axis)

    return _bootstrap(strata, together, confidence, resamples, seed)


def improvement(ours: Strata, theirs: Strata) -> float:
    """Probability of improvement: how likely a run of ours has a higher score than one of theirs.

    Mean over the tasks of P(X > Y) + P(X = Y) / 2, over all pairs of runs.
    """
    return float(_improvement(ours, theirs))


def improvement_interval(
    ours: Strata,
    theirs: Strata,
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `improvement`, drawn anew within each task of either side."""

    def compare(*samples: Array, axis: int) -> Any:
        return _improvement(samples[: len(ours)], samples[len(ours) :])

    return _bootstrap([*ours, *theirs], compare, confidence, resamples, seed)


def mean_interval(scores: Array, *, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of scores [seeds]; NaN of a single one.

    Of normal scores it covers the truth as often as `confidence` says, however few they are.
    """
    return _student([scores], confidence)


def difference_interval(ours: Array, theirs: Array, *, confidence: float = 0.95) -> Interval:
    """Welch's interval of mean(ours) - mean(theirs), for what a change is worth.

    The two may spread differently. NaN if one of them has a single score.
    """
    return _student([ours, theirs], confidence)


def standing(cost: Interval, limit: float) -> str:
    """`inside` or `above` if the whole interval of a cost is; else `open`."""
    return "inside" if cost.high <= limit else "above" if cost.low > limit else "open"


def _student(samples: Strata, confidence: float) -> Interval:
    """Mean of the first sample minus that of the second, if there is one, +- t * standard error.

    Degrees of freedom after Welch and Satterthwaite; of one sample, these are n - 1.
    """
    sizes = np.array([len(sample) for sample in samples])
    if sizes.min() == 0:
        raise ValueError("every stratum needs at least one score")
    if sizes.min() < 2:
        return Interval(np.nan, np.nan)
    squares = np.array([np.var(sample, ddof=1) for sample in samples]) / sizes
    centre = float(np.mean(samples[0]) - sum(np.mean(sample) for sample in samples[1:]))
    if squares.max() == 0.0:
        return Interval(centre, centre)
    freedom = squares.sum() ** 2 / (squares**2 / (sizes - 1)).sum()
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(squares.sum()))
    return Interval(centre - half, centre + half)


def _improvement(ours: Strata, theirs: Strata) -> Any:
    """The same for leading axes of resamples."""
    chances = [
        0.5 + 0.5 * np.sign(x[..., :, None] - y[..., None, :]).mean(axis=(-2, -1))
        for x, y in zip(ours, theirs, strict=True)
    ]
    return np.mean(chances, axis=0)


def _bootstrap(
    samples: Strata, statistic: Callable[..., Any], confidence: float, resamples: int, seed: int
) -> Interval:
    if any(len(sample) == 0 for sample in samples) or not samples:
        raise ValueError("every stratum needs at least one score")
    if any(len(sample) < 2 for sample in samples):
        return Interval(np.nan, np.nan)
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        vectorized=True,
        axis=-1,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(*map(float, found.confidence_interval))


def count_episodes(progress: pd.DataFrame, episodes: pd.DataFrame) -> pd.DataFrame:
    """What safety asks of every epoch, as sums, so that epochs can be put together.

    Args:
        progress: a row an epoch, with `env_steps`, `episodic_cost_mean` and `cost_limit`.
        episodes: a row a whole episode, with `env_steps` (its end) and `episode_cost`. Those that
            end after the last row of a running training's `progress` are left out.

    Returns:
        A row an epoch: `epochs` whose episodic cost is known, `epochs_within` the limit, `episodes`
        that ended, `episodes_within` the limit, `cost_sum` of them, and `excess`: how far the
        episodic cost was above the limit, times the epoch's steps.
    """
    ends = progress["env_steps"].to_numpy()
    limit = progress["cost_limit"].to_numpy(dtype=float)
    cost = progress["episodic_cost_mean"].to_numpy(dtype=float)
    epoch = np.searchsorted(ends, episodes["env_steps"].to_numpy())
    reported = epoch < len(ends)
    epoch, episode_cost = epoch[reported], episodes["episode_cost"].to_numpy(dtype=float)[reported]

    def per_epoch(values: Any) -> Any:
        return np.bincount(epoch, weights=values, minlength=len(ends))

    above = np.nan_to_num(np.maximum(cost - limit, 0.0))
    return pd.DataFrame(
        {
            "epochs": np.isfinite(cost).astype(int),
            "epochs_within": (cost <= limit).astype(int),
            "episodes": per_epoch(None).astype(int),
            "episodes_within": per_epoch(episode_cost <= limit[epoch]).astype(int),
            "cost_sum": per_epoch(episode_cost),
            "excess": above * np.diff(ends, prepend=0),
        },
        index=progress.index,
    )


COUNTS = ("epochs", "epochs_within", "episodes", "episodes_within", "cost_sum", "excess")


def safety_numbers(record: pd.DataFrame) -> dict[str, float]:
    """What learning cost, from a table with the columns of `count_episodes`.

    Returns:
        `epochs_within`, `episodes_within`: shares within the limit, over the whole training.
        `violations`: episodes above the limit. `training_cost`: mean cost of an episode of the
        training. `excess`: the integral of the episodic cost above the limit, over million steps.
    """
    sums = record[list(COUNTS)].sum()
    return {
        "epochs_within": share(sums["epochs_within"], sums["epochs"]),
        "episodes_within": share(sums["episodes_within"], sums["episodes"]),
        "violations": int(sums["episodes"] - sums["episodes_within"]),
        "training_cost": share(sums["cost_sum"], sums["episodes"]),
        "excess": float(sums["excess"] / 1e6),
    }


def share(part: float, whole: float) -> float:
    """part / whole; NaN if there is no whole."""
    return float(part / whole) if whole else np.nan
