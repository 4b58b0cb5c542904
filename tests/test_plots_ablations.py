"""The pictures of notebook 10 draw what there is, and their explorers answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kfcpo_lib.ablations import Kept, shore_map
from kfcpo_lib.plots import ablations as draw
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets.ablations import map_explorer, winner_explorer

LAMBDAS, KS = (0.5, 0.7, 0.9), (0.1, 0.4, 10.0)


def made(seeds=4, cost=9.0):
    """A kept sweep of invented numbers."""
    rng = np.random.default_rng(0)
    places = itertools.product(LAMBDAS, KS, range(seeds))
    table = pd.DataFrame(places, columns=["margin_lambda", "steepness_k", "seed"])
    table.insert(0, "run", [f"run_{i}" for i in range(len(table))])
    table.insert(1, "configuration", "kfcpo")
    table["algorithm"], table["cost_limit"] = "kfcpo", 10.0
    table["seed"] = table.pop("seed")  # as in a sweep's table, after what tells settings apart
    for column, _ in draw.MEASURES.values():
        table[column] = rng.normal(5.0, 1.0, len(table))
    table["sampled_cost"] = rng.normal(cost, 1.0, len(table))
    steps = pd.DataFrame({"env_steps": [1_000, 2_000, 3_000]})
    curves = table[["run"]].merge(steps, how="cross")
    curves["return_mean"] = rng.normal(size=len(curves))
    curves["episodic_cost_mean"] = np.where(curves["env_steps"] == 1_000, np.nan, 8.0)
    grid = {"margin_lambda": list(LAMBDAS), "steepness_k": list(KS)}
    spec = {"common": {"env_id": "made"}, "grid": grid}
    return Kept(table, curves, spec, len(LAMBDAS) * len(KS))


def seeds_of(count):
    return np.arange(float(count))


@pytest.mark.parametrize("count", [1, 2, 10])
def test_arms_show_every_seed(count):
    arms = {"one": (seeds_of(count), seeds_of(count)), "two": (seeds_of(count), seeds_of(count))}
    figure = draw.draw_arms(arms, 5.0, "title")
    left, right = figure.axes
    dots = [line for line in left.get_lines() if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [count, count]
    assert [text.get_text() for text in left.get_yticklabels()] == ["one", "two"]
    assert 5.0 in [line.get_xdata()[0] for line in right.get_lines()]
    assert png(figure)


def test_doses_have_a_panel_a_measure():
    panels = {name: [seeds_of(3), seeds_of(2) + 1] for name in ("return", "episodic cost")}
    figure = draw.draw_doses([0.005, 0.01], panels, 10.0, "KL limit")
    assert [axes.get_title() for axes in figure.axes] == ["return", "episodic cost"]
    assert png(figure)


def test_the_weight_at_work_has_a_line_a_run():
    steps = pd.DataFrame({"env_steps": [1e6, 2e6], "return_mean": [0.0, 4.0]})
    record = steps.assign(episodic_cost_mean=[50.0, 30.0], cost_weight=[0.5, 1.0], cost_limit=25.0)
    figure = draw.draw_weight_at_work({"one": record, "two": record + 1.0}, window=2)
    first = [axes.get_lines()[0].get_ydata()[-1] for axes in figure.axes]
    assert first == [2.0, 40.0, 0.75]
    assert png(figure)


def test_a_curve_is_the_mean_of_its_seeds():
    kept = made()
    figure = draw.draw_curves(kept, {"low": {"margin_lambda": 0.5, "steepness_k": 0.1}})
    [line] = figure.axes[0].get_lines()
    of_setting = kept.curves[kept.curves["run"].isin([f"run_{i}" for i in range(4)])]
    expected = of_setting.groupby("env_steps")["return_mean"].mean()
    np.testing.assert_allclose(line.get_ydata(), expected)
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
    [band] = figure.axes[0].collections
    ends = band.get_datalim(figure.axes[0].transData).get_points()[:, 1]
    scores = of_setting.pivot(index="run", columns="env_steps", values="return_mean")
    every = stats.ttest_1samp(scores, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(ends, [every.low.min(), every.high.max()])
    assert png(figure)


@pytest.mark.parametrize("cost", [2.0, 10.0, 99.0])
def test_a_map_marks_the_best_settings_and_hatches_the_unsafe(cost):
    kept = made(cost=cost)
    figure = draw.draw_map(kept, "return", "mean", seeds=4)
    [axes] = figure.axes
    corners = [patch.get_xy() for patch in axes.patches if patch.get_width()]  # 0: the legend's
    hatched = {(LAMBDAS[round(y + 0.5)], KS[round(x + 0.5)]) for x, y in corners}
    costs = kept.results.groupby(["margin_lambda", "steepness_k"])["sampled_cost"].mean()
    assert hatched == {*costs.index[costs > 10.0]}
    assert (cost == 10.0) == (0 < len(hatched) < 9)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert ("best by the means: none" in words) == (cost == 99.0)
    assert png(figure)


def test_bars_are_the_intervals_of_the_verdicts():
    scores = np.array([8.0, 9.0, 9.5, 9.9])
    low, high = stats.ttest_1samp(scores, 0.0).confidence_interval(0.95)
    figure = draw.draw_arms({"one": (scores, scores)}, 10.0, "title")
    assert [low, high] == pytest.approx([*figure.axes[0].lines[1].get_xdata()])
    figure = draw.draw_doses([1.0], {"return": [scores]}, 10.0, "dose")
    assert [low, high] == pytest.approx([*figure.axes[0].lines[1].get_ydata()])


def test_two_seeds_have_no_bar():
    scores = np.array([8.0, 9.0])
    bar = draw.draw_arms({"one": (scores, scores)}, 10.0, "title").axes[0].lines[1]
    assert np.isnan(bar.get_xdata()).all()
    bar = draw.draw_doses([1.0], {"return": [scores]}, 10.0, "dose").axes[0].lines[1]
    assert np.isnan(bar.get_ydata()).all()


def test_the_winner_promises_more_than_it_keeps_unless_it_is_alone():
    for settings, promised in ((1, 10.0), (9, 12.0)):
        figure = draw.draw_winner(settings, seeds=2, spread=2.0)
        words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        means = {word.split(":")[0]: float(word.rsplit(" ", 1)[1]) for word in words}
        assert means["kept"] == pytest.approx(10.0, abs=0.15)
        assert means["promised"] == pytest.approx(promised, abs=0.15)
        assert png(figure)


def test_lines_and_times_draw():
    kept = made()
    values, lambdas, ks = draw.grid_of(kept, "sampled_return", "margin_lambda", "steepness_k")
    assert png(draw.draw_lines(values, lambdas, ks, "return"))
    times = {"K-FAC ms": 3.0, "conjugate gradient ms": 50.0, "conjugate gradient / K-FAC": 16.0}
    assert png(draw.draw_times([{"hidden layers": "8", "parameters": 90} | times], "title"))


def test_every_control_changes_the_picture():
    for explorer in (map_explorer({"a": made(), "b": made(3)}), winner_explorer()):
        for name, control in explorer.controls.items():
            for value in ends_of(control):
                before = explorer.picture.value
                control.value = value
                assert explorer.picture.value != before, name
                assert explorer.message.value == ""


def test_what_a_table_lacks_is_said_under_the_controls():
    explorer = map_explorer({"shore walk": shore_map(seeds=2, epochs=4)})
    before = explorer.picture.value
    explorer.controls["measure"].value = "steps undone"
    assert explorer.message.value == "shore walk has no steps undone"
    assert explorer.picture.value == before


def ends_of(control):
    if hasattr(control, "options"):
        return control.options[1:]
    return [value for value in (control.min, control.max) if value != control.value]


def test_the_gain_at_rest_is_drawn_against_nothing():
    row = {"run": "a", "env_steps": 5, "return": 1.0, "cost": 2.0}
    rows = [
        row | {"lambda": share, "cost lowered": 3 * share, "gain at rest": -share}
        for share in (0.5, 0.95)
    ]
    figure = draw.draw_gain_at_rest(rows)
    [axes] = figure.axes
    lowered, gained, nothing = (line.get_ydata() for line in axes.get_lines())
    np.testing.assert_allclose(lowered, [1.5, 2.85])
    np.testing.assert_allclose(gained, [-0.5, -0.95])
    np.testing.assert_allclose(nothing, [0.0, 0.0])
    assert png(figure)


def test_clarity_has_a_panel_a_policy_with_its_numbers():
    rows = [
        {
            "run": run,
            "env_steps": steps,
            "return": 1.0,
            "cost": 2.0,
            "lambda": share,
            "reward's clarity": 0.5 + share / 10,
            "cost's clarity": steps / 1e4,
            "cost's truth, cosine to reference": 1.0,
        }
        for run, steps in (("a", 1_000), ("a", 3_000), ("b", 3_000))
        for share in (0.5, 0.95)
    ]
    figure = draw.draw_clarity(rows)
    assert [axes.get_title()[:5] for axes in figure.axes] == ["1,000", "3,000", "3,000"]
    for axes, cost in zip(figure.axes, (0.1, 0.3, 0.3), strict=True):
        of_reward, of_cost, _ = (line.get_ydata() for line in axes.get_lines())
        np.testing.assert_allclose(of_reward, [0.55, 0.595])
        np.testing.assert_allclose(of_cost, [cost, cost])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.5", "0.95"]
    assert png(figure)
