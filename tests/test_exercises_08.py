"""Notebook 08's checks: right answers pass, usual wrong ones hear the sentence meant for them."""

import math

import numpy as np
import pytest
from scipy import stats

from kfcpo_lib.exercises import nb08


def said(check, answer, capsys):
    assert not check(answer)
    return capsys.readouterr().out


def my_steps(env_steps, episodic_cost, turned_at, limit):
    for step, cost in zip(env_steps, episodic_cost, strict=True):
        if step > turned_at and cost <= limit:
            return step - turned_at
    return math.inf


def my_verdict(costs, cost_limit):
    half = stats.t.ppf(0.975, len(costs) - 1) * costs.std(ddof=1) / len(costs) ** 0.5
    low, high = costs.mean() - half, costs.mean() + half
    return low, high, "inside" if high <= cost_limit else "above" if low > cost_limit else "open"


def by_the_mean(costs, cost_limit):
    return *my_verdict(costs, cost_limit)[:2], "inside" if costs.mean() <= cost_limit else "above"


def half_width(costs, factor, ddof=1, scale=True):
    half = factor(len(costs)) * costs.std(ddof=ddof)
    return half / (len(costs) ** 0.5 if scale else 1.0)


def with_half(half):
    return lambda costs, limit: (
        costs.mean() - half(costs), costs.mean() + half(costs), "open"
    )  # fmt: skip


def t(n):
    return stats.t.ppf(0.975, n - 1)


def test_right_answers_pass(capsys):
    for answer in (my_steps, nb08.steps_until_inside):
        assert nb08.check_steps_until_inside(answer)
    for answer in (my_verdict, nb08.verdict):
        assert nb08.check_verdict(answer)
    assert capsys.readouterr().out.count("right") == 4


@pytest.mark.parametrize("check", [nb08.check_steps_until_inside, nb08.check_verdict])
def test_stubs_are_not_solved_yet(check, capsys):
    assert "not solved yet" in said(check, lambda *_: None, capsys)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda s, c, t, limit: my_steps(s, c, t, limit) + t, "how long after the turn"),
        (lambda s, c, t, limit: my_steps(s, c, -1.0, limit) - 1.0 - t, "only later ones count"),
        (
            lambda s, c, t, limit: 0.0 if math.isinf(my_steps(s, c, t, limit))
            else my_steps(s, c, t, limit),
            "infinity",
        ),
        (
            lambda s, c, t, limit: my_steps(s, c, t, limit)
            if not ((s > t) & (c > limit)).any() or math.isinf(my_steps(s, c, t, limit))
            else s[(s > t) & (c > limit)][-1] - t + 20_000,
            "not the last one above",
        ),
    ],
    ids=["the step itself", "before the turn", "never", "the last one above"],
)  # fmt: skip
def test_wrong_steps_are_told_why(answer, sentence, capsys):
    assert sentence in said(nb08.check_steps_until_inside, answer, capsys)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (with_half(lambda c: half_width(c, lambda n: 1.96)), "Student's t"),
        (with_half(lambda c: half_width(c, t, scale=False)), "by sqrt(n)"),
        (with_half(lambda c: half_width(c, t, ddof=0)), "ddof=1"),
        (lambda c, limit: (*np.quantile(c, [0.025, 0.975]), "open"), "around the mean"),
        (by_the_mean, "decides nothing"),
        (lambda c, limit: (*my_verdict(c, limit)[:2], True), "not 'True'"),
        (lambda c, limit: my_verdict(c, limit)[2], "three things"),
    ],
    ids=["1.96", "of an episode", "ddof", "quantiles", "by the mean", "no word", "one thing"],
)
def test_wrong_verdicts_are_told_why(answer, sentence, capsys):
    assert sentence in said(nb08.check_verdict, answer, capsys)


def test_share_of_episodes_is_not_the_verdict(capsys):
    def by_share(costs, limit):
        within = np.mean(costs <= limit) >= 0.5
        return *my_verdict(costs, limit)[:2], "inside" if within else "above"

    costs = np.array([0.0, 0.0, 0.0, 200.0])  # mostly within, yet too much on average
    with pytest.raises(nb08.Wrong, match="not on the share"):
        nb08._judge_verdict(by_share, costs, 25.0)
