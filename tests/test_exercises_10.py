"""The checks of notebook 10: right answers pass, usual mistakes get the sentence meant for them."""

import numpy as np
import pytest

from kfcpo_lib.ablations import best_by_mean, best_inside, effects
from kfcpo_lib.evidence import mean_interval
from kfcpo_lib.exercises.nb10 import (
    check_choice,
    check_effects,
    check_promise,
    scores_to_choose_from,
    settings_to_choose_from,
)


def told(capsys, check, answer):
    verdict = check(answer)
    return verdict, capsys.readouterr().out


def promise(scores, choose=lambda first, second: first.mean(axis=1).argmax()):
    first, second = np.hsplit(scores, 2)
    best = int(choose(first, second))
    return best, first[best].mean(), second[best].mean()


RIGHT = [(check_effects, effects), (check_choice, best_inside), (check_promise, promise)]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, answer):
    verdict, text = told(capsys, check, answer)
    assert verdict
    assert "right" in text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def part(number, change):
    """The right effects, but for one of them."""

    def answer(table):
        answers = list(effects(table))
        answers[number] = change(table, *answers)
        return answers

    return answer


EFFECTS = {
    "rows and columns are swapped": lambda t: [effects(t)[i] for i in (1, 0, 2)],
    "those are means": part(0, lambda t, *_: t.mean(axis=1)),
    "minus the mean of all cells": part(1, lambda t, r, c, i: 2 * c),
    "take the mean of all cells off, too": part(2, lambda t, r, c, i: i + t.mean()),
    "taken off twice": part(2, lambda t, r, c, i: i - t.mean()),
    "what is left of each cell": part(2, lambda t, r, c, i: t - t.mean()),
    "should have the shape": part(2, lambda t, r, c, i: r),
    "three arrays": lambda t: effects(t)[:2],
}


@pytest.mark.parametrize("sentence", EFFECTS)
def test_wrong_effects(capsys, sentence):
    verdict, text = told(capsys, check_effects, EFFECTS[sentence])
    assert not verdict
    assert sentence in text


def choose(safe, best):
    def answer(returns, costs, limit):
        fine = [i for i in range(len(costs)) if safe(costs[i], limit)]
        return max(fine, key=lambda i: best(returns[i], costs[i]), default=None)

    return answer


def surely(costs, limit):
    return mean_interval(costs).high <= limit


CHOICES = {
    "earns the most of all": choose(lambda *_: True, lambda r, c: r.mean()),
    "not surely safe": best_by_mean,
    "compare the lower ends": choose(surely, lambda r, c: r.mean()),
    "among those surely inside": choose(surely, lambda r, c: -c.mean()),
    "return None": lambda r, c, limit: best_inside(r, c, limit) or 0,
}


@pytest.mark.parametrize("sentence", CHOICES)
def test_wrong_choices(capsys, sentence):
    verdict, text = told(capsys, check_choice, CHOICES[sentence])
    assert not verdict
    assert sentence in text


def test_settings_to_choose_from_are_what_their_names_say():
    for _ in range(20):
        names, returns, costs, limit = settings_to_choose_from(True)
        assert names[best_inside(returns, costs, limit)] == "right"
        assert names[best_by_mean(returns, costs, limit)] == "risky"
        assert names[returns.mean(axis=1).argmax()] == "greedy"
        _, returns, costs, limit = settings_to_choose_from(False)
        assert best_inside(returns, costs, limit) is None


def instead(number, change):
    def answer(scores):
        answers = list(promise(scores))
        answers[number] = change(scores, answers[0])
        return answers

    return answer


PROMISES = {
    "best on the second half": lambda s: promise(s, lambda a, b: b.mean(axis=1).argmax()),
    "then none is left": lambda s: promise(s, lambda a, b: (a + b).mean(axis=1).argmax()),
    "best single seed": lambda s: promise(s, lambda a, b: a.max(axis=1).argmax()),
    "choose the setting with the highest mean": lambda s: promise(
        s, lambda a, b: a.mean(axis=1).argmin()
    ),
    "the seeds that chose it": instead(1, lambda s, best: s[best].mean()),
    "that is the promise again": instead(2, lambda s, best: np.hsplit(s, 2)[0][best].mean()),
    "all seeds together": instead(2, lambda s, best: s[best].mean()),
    "is another choice": instead(2, lambda s, best: np.hsplit(s, 2)[1].mean(axis=1).max()),
    "over the second half of the seeds": instead(2, lambda s, best: 99.0),
    "three numbers": lambda s: promise(s)[:2],
}


@pytest.mark.parametrize("sentence", PROMISES)
def test_wrong_promises(capsys, sentence):
    verdict, text = told(capsys, check_promise, PROMISES[sentence])
    assert not verdict
    assert sentence in text


def test_the_best_settings_of_the_halves_differ():
    for _ in range(20):
        scores = scores_to_choose_from(5, 6)
        first, second = np.hsplit(scores, 2)
        best = {
            int(x.argmax()) for x in (first.mean(1), second.mean(1), scores.mean(1), first.max(1))
        }
        assert len(best) == 4
