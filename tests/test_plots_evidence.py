"""Figures of results: they draw what there is, one seed or many, and the explorer answers."""

import numpy as np
import pandas as pd
import pytest

from kfcpo_lib.evidence import Interval, mean_interval
from kfcpo_lib.plots.evidence import (
    Point,
    draw_intervals,
    draw_learning,
    draw_luck,
    draw_misleading,
    draw_pareto,
    draw_tasks,
    point_of,
)
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets.evidence import luck_explorer

NONE = Interval(np.nan, np.nan)


def record(rows, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "env_steps": 1_000 * np.arange(1, rows + 1),
            "return_mean": rng.normal(size=rows),
            "episodic_cost_mean": rng.uniform(0, 60, rows),
            "cost_limit": 25.0,
        }
    )


@pytest.mark.parametrize("rules", [1, 4, 6])
def test_learning_draws_a_panel_a_rule_and_as_many_seeds_as_there_are(rules):
    runs = {f"rule {n}": [record(20 + seed, seed) for seed in range(n + 1)] for n in range(rules)}
    figure = draw_learning(runs)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [f"rule {n} ({n + 1} seed{'s' if n else ''})" for n in range(rules)]
    assert png(figure)


def test_a_learning_curve_is_the_mean_of_its_seeds():
    runs = [record(10, 0), record(12, 1)]
    [cost, *_] = draw_learning({"one": runs}, window=1).axes[0].get_lines()
    expected = (runs[0]["episodic_cost_mean"] + runs[1]["episodic_cost_mean"][:10]) / 2
    np.testing.assert_allclose(cost.get_ydata(), expected[:10])


@pytest.mark.parametrize("interval", [NONE, Interval(8.0, 13.0)])
def test_return_against_cost_tells_by_shape_what_the_interval_of_the_cost_says(interval):
    costs = {
        "inside": Point(20.0, Interval(18.0, 25.0)),
        "above": Point(300.0, Interval(25.1, 400.0)),
        "either": Point(24.0, Interval(20.0, 28.0)),
        "one seed": Point(20.0, NONE),
    }
    points = {rule: (Point(10.0, interval), cost) for rule, cost in costs.items()}
    figure = draw_pareto(points, 25.0)
    markers = [container[0].get_marker() for container in figure.axes[0].containers]
    assert markers == ["o", "X", "D", "D"]
    assert {text.get_text() for text in figure.axes[0].texts} == set(points)
    [explained] = figure.legends
    assert [text.get_text().split()[-1] for text in explained.get_texts()] == [
        "inside", "above", "open",
    ]  # fmt: skip
    assert png(figure)


@pytest.mark.parametrize("tasks", [["one"], ["one", "two", "three"]])
def test_every_task_has_a_panel_with_its_rules(tasks):
    points = {name: {f"rule of {name}": (Point(1.0, NONE), Point(2.0, NONE))} for name in tasks}
    figure = draw_tasks(points, 25.0)
    assert [axes.get_title() for axes in figure.axes] == tasks
    assert [axes.texts[0].get_text() for axes in figure.axes] == [f"rule of {n}" for n in tasks]
    assert png(figure)


def test_intervals_are_drawn_where_there_are_any():
    figure = draw_intervals(
        {"a": Point(1.0, NONE), "b": Point(2.0, Interval(1.5, 2.2))}, "title", "unit", 1.0
    )
    [none, some] = figure.axes[0].containers
    assert not none.has_xerr
    assert some.has_xerr
    assert png(figure)


@pytest.mark.parametrize("returns", [{"a": 5.0}, {"a": 5.0, "b": -3.0}])
def test_the_misleading_figure_draws(returns):
    assert png(draw_misleading(returns))


def test_the_explorer_draws_anew_and_survives_its_ends():
    explorer = luck_explorer()
    for name, control in explorer.controls.items():
        for value in (control.min, control.max):
            before = explorer.picture.value
            control.value = value
            assert explorer.picture.value != before, name
            assert explorer.message.value == ""
    assert draw_luck(seeds=2, gap=0.0, spread=0.5)


def test_of_two_neighbours_the_lower_one_has_its_name_below():
    ends = {"low": (16.0, 24.1), "high": (16.6, 23.9), "far": (27.0, 53.0), "alone": (16.2, 40.0)}
    nowhere = Interval(float("nan"), float("nan"))
    points = {
        rule: (Point(gain, nowhere), Point(cost, nowhere)) for rule, (gain, cost) in ends.items()
    }
    names = {text.get_text(): text for text in draw_pareto(points, 25.0).axes[0].texts}
    below = {rule for rule in ends if names[rule].xyann[1] < 0}
    assert below == {"low"}


def test_a_point_of_two_seeds_has_no_interval():
    scores = np.array([3.0, 4.0, 8.0])
    assert point_of(scores) == Point(5.0, mean_interval(scores))
    assert np.isnan(point_of(scores[:2]).interval).all()
