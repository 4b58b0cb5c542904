"""Statistics of few seeds: by hand, by enumeration, by another library, and by simulation."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kfcpo_lib.evidence import (
    Interval,
    bootstrap_interval,
    count_episodes,
    difference_interval,
    improvement,
    improvement_interval,
    interquartile_mean,
    mean,
    mean_interval,
    safety_numbers,
    standing,
)

samples = arrays(float, st.integers(2, 6), elements=st.integers(-99, 99).map(float)).filter(
    lambda x: np.ptp(x) > 0
)
scores = arrays(float, st.integers(2, 6), elements=st.integers(-5, 5).map(float))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0, 100.0], 2.5),
        ([0.0, 8.0, 2.0, 6.0, 4.0, -100.0, 3.0, 100.0], (2 + 3 + 4 + 6) / 4),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three is less than one: nothing is cut off
        ([1.0, 2.0, 3.0, 4.0, 90.0], 3.0),
        ([7.0], 7.0),
    ],
)
def test_the_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)


@given(scores, st.floats(-10, 10), st.floats(0.1, 10))
def test_the_interquartile_mean_moves_with_its_scores(x: Any, shift: float, scale: float) -> None:
    moved = interquartile_mean(scale * x + shift)
    assert moved == pytest.approx(scale * interquartile_mean(x) + shift, abs=1e-9)
    assert x.min() - 1e-9 <= interquartile_mean(x) <= x.max() + 1e-9


def assert_near_quantiles(found: Interval, every: list[float]) -> None:
    """The ends are quantiles 0.05 and 0.95 of all resamples, give or take 0.01."""
    for end, quantile in zip(found, (0.05, 0.95), strict=True):
        lower, upper = np.quantile(every, [quantile - 0.01, quantile + 0.01])
        assert lower - 1e-9 <= end <= upper + 1e-9


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_the_interval_is_that_of_all_possible_resamples(statistic: Callable[..., Any]) -> None:
    strata = [np.array([0.0, 1.0, 5.0]), np.array([10.0, 11.0, 17.0])]
    resamples = [
        statistic(np.concatenate([a, b]))
        for a in itertools.product(strata[0], repeat=3)
        for b in itertools.product(strata[1], repeat=3)
    ]
    found = bootstrap_interval(strata, statistic, confidence=0.9, resamples=40_000)
    assert_near_quantiles(found, resamples)
    mixed = bootstrap_interval([np.concatenate(strata)], statistic, confidence=0.9)
    assert mixed.high - mixed.low > 1.5 * (found.high - found.low)  # strata keep their weight


def test_the_same_seed_gives_the_same_interval_and_one_score_gives_none() -> None:
    sample = [np.random.default_rng(0).normal(size=5)]
    assert bootstrap_interval(sample) == bootstrap_interval(sample)
    assert bootstrap_interval(sample, resamples=9) != bootstrap_interval(
        sample, resamples=9, seed=1
    )
    assert np.isnan(bootstrap_interval([np.array([1.0]), np.array([1.0, 2.0])])).all()
    assert bootstrap_interval([np.array([2.0, 2.0])], mean) == Interval(2.0, 2.0)
    for empty in ([], [np.array([])]):
        with pytest.raises(ValueError, match="at least one score"):
            bootstrap_interval(empty)


def test_the_probability_of_improvement_by_hand() -> None:
    x, y = np.array([1.0, 3.0]), np.array([0.0, 2.0])
    assert improvement([x], [y]) == pytest.approx(3 / 4)  # 1 > 0, 3 > 0, 3 > 2
    assert improvement([x], [x]) == pytest.approx(0.5)  # ties count half
    assert improvement([x, y], [y, x]) == pytest.approx(0.5)  # mean over tasks
    with pytest.raises(ValueError, match="zip"):
        improvement([x], [y, y])


@given(scores, scores)
def test_the_probability_of_improvement_is_mann_whitneys(x: Any, y: Any) -> None:
    u = stats.mannwhitneyu(x, y, method="asymptotic").statistic
    assert improvement([x], [y]) == pytest.approx(u / (len(x) * len(y)))
    assert improvement([x], [y]) + improvement([y], [x]) == pytest.approx(1.0)


def test_its_interval_is_that_of_all_possible_resamples() -> None:
    x, y = np.array([0.0, 2.0, 4.0]), np.array([1.0, 1.5, 3.0])
    every = [
        improvement([np.array(a)], [np.array(b)])
        for a in itertools.product(x, repeat=3)
        for b in itertools.product(y, repeat=3)
    ]
    found = improvement_interval([x], [y], confidence=0.9, resamples=20_000)
    assert_near_quantiles(found, every)
    assert np.isnan(improvement_interval([x], [np.array([1.0])])).all()
    assert improvement_interval([x + 9], [y]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("interval", "found"),
    [((20, 25), "inside"), ((25, 30), "open"), ((25.1, 30), "above"), ((np.nan, np.nan), "open")],
)
def test_a_whole_interval_decides_on_which_side_of_the_limit_a_cost_is(
    interval: tuple[float, float], found: str
) -> None:
    assert standing(Interval(*interval), 25.0) == found


@pytest.mark.full
@pytest.mark.parametrize(("seeds", "lowest", "highest"), [(5, 0.78, 0.90), (40, 0.91, 0.97)])
def test_intervals_cover_the_truth_as_often_as_they_say(
    seeds: int, lowest: float, highest: float, record_property: Callable[..., None]
) -> None:
    rng, repetitions, covered = np.random.default_rng(0), 400, 0
    for repetition in range(repetitions):
        strata = [rng.normal(loc=task, size=seeds) for task in range(2)]
        low, high = bootstrap_interval(strata, mean, resamples=500, seed=repetition)
        covered += low <= 0.5 <= high
    record_property("coverage", covered / repetitions)
    assert lowest <= covered / repetitions <= highest


@given(samples, samples, st.sampled_from([0.5, 0.9, 0.95]))
def test_intervals_of_means_are_scipys(x: Any, y: Any, confidence: float) -> None:
    one = stats.ttest_1samp(x, 0.0).confidence_interval(confidence)
    assert mean_interval(x, confidence=confidence) == pytest.approx(tuple(one))
    two = stats.ttest_ind(x, y, equal_var=False).confidence_interval(confidence)
    assert difference_interval(x, y, confidence=confidence) == pytest.approx(tuple(two))


def test_intervals_of_means_by_hand() -> None:
    assert mean_interval(np.array([1.0, 3.0])) == pytest.approx((2 - 12.7062, 2 + 12.7062))
    four = np.array([2.0, 4.0, 6.0, 8.0])  # standard error sqrt(5/3), t(3; 0.95) = 2.35336
    half = 2.35336 * (5 / 3) ** 0.5
    assert mean_interval(four, confidence=0.9) == pytest.approx((5 - half, 5 + half), rel=1e-5)
    x, y = np.array([0.0, 1.0, 2.0]), np.array([10.0, 11.0, 12.0])
    half = 2.776445 * np.sqrt(2 / 3)  # t of 4 degrees: equal spreads
    assert difference_interval(x, y) == pytest.approx((-10 - half, -10 + half))
    constant = difference_interval(x, np.full(7, 4.0))
    assert constant == pytest.approx([end - 4.0 for end in mean_interval(x)])


def test_intervals_of_means_without_spread_or_with_one_score() -> None:
    same, single = np.full(3, 2.0), np.array([1.0])
    assert mean_interval(same) == Interval(2.0, 2.0)
    assert difference_interval(same, same + 1) == Interval(-1.0, -1.0)
    assert np.isnan(mean_interval(single)).all()
    assert np.isnan(difference_interval(same, single)).all()
    with pytest.raises(ValueError, match="at least one score"):
        mean_interval(np.array([]))


@pytest.mark.parametrize("seeds", [2, 4, 10])
def test_intervals_of_means_miss_one_time_in_twenty(seeds: int) -> None:
    rng, repetitions = np.random.default_rng(seeds), 2_000
    mine, theirs = rng.normal(3.0, 2.0, (2, repetitions, seeds))
    missed = np.mean([not low <= 3.0 <= high for low, high in map(mean_interval, mine)])
    assert 0.035 < missed < 0.065
    differences = map(difference_interval, mine, theirs)
    apart = np.mean([not low <= 0.0 <= high for low, high in differences])
    assert apart < 0.065  # Welch's is a little cautious with very few


def slow_count(progress: pd.DataFrame, episodes: pd.DataFrame) -> list[dict[str, float]]:
    rows, start = [], 0
    for epoch in progress.to_dict("records"):
        ended = [
            episode["episode_cost"]
            for episode in episodes.to_dict("records")
            if start < episode["env_steps"] <= epoch["env_steps"]
        ]
        limit, cost = epoch["cost_limit"], epoch["episodic_cost_mean"]
        rows.append(
            {
                "epochs": int(cost == cost),
                "epochs_within": int(cost <= limit),
                "episodes": len(ended),
                "episodes_within": sum(c <= limit for c in ended),
                "cost_sum": sum(ended),
                "excess": max(cost - limit, 0) * (epoch["env_steps"] - start)
                if cost == cost
                else 0,
            }
        )
        start = epoch["env_steps"]
    return rows


@given(st.data())
def test_episodes_are_counted_as_a_loop_counts_them(data: st.DataObject) -> None:
    epochs = data.draw(st.integers(1, 5))
    costs = st.one_of(st.just(float("nan")), st.integers(0, 9).map(float))
    progress = pd.DataFrame(
        {
            "env_steps": 100 * np.arange(1, epochs + 1),
            "episodic_cost_mean": data.draw(st.lists(costs, min_size=epochs, max_size=epochs)),
            "cost_limit": 5.0,
        }
    )
    latest = 100 * epochs + 50  # after the last row: a training has gone on meanwhile
    ends = data.draw(st.lists(st.integers(1, latest), max_size=8))
    episodes = pd.DataFrame({"env_steps": ends, "episode_cost": [float(e % 11) for e in ends]})
    counted = count_episodes(progress, episodes)
    assert counted.to_dict("records") == slow_count(progress, episodes)


def test_safetys_numbers_by_hand() -> None:
    progress = pd.DataFrame(
        {
            "env_steps": [1_000_000, 2_000_000],
            "episodic_cost_mean": [30.0, 20.0],
            "cost_limit": 25.0,
        }
    )
    ends = [500_000, 900_000, 1_500_000, 1_900_000]
    episodes = pd.DataFrame({"env_steps": ends, "episode_cost": [20.0, 40.0, 25.0, 15.0]})
    assert safety_numbers(count_episodes(progress, episodes)) == {
        "epochs_within": 0.5,
        "episodes_within": 0.75,  # at the limit is within it
        "violations": 1,
        "training_cost": 25.0,
        "excess": 5.0,
    }
