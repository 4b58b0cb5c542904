"""The checks of notebook 09: right answers pass, usual mistakes get the sentence meant for them."""

import numpy as np
import pytest

from kfcpo_lib.algorithms import cpo
from kfcpo_lib.algorithms.second_order import Scalars
from kfcpo_lib.exercises.nb09 import (
    REAL_FLAWS,
    check_cpo,
    check_flaws,
    check_front,
    check_iqm,
    undominated,
)


def told(capsys, check, answer):
    verdict = check(answer)
    return verdict, capsys.readouterr().out


def step(sign=1.0, length=1.0, always=False, recovery=False):
    def answer(q, r, s, c, delta):
        alpha = np.sqrt(2 * delta / q)
        if alpha * r + c <= 0 and not always:
            return length * alpha, 0.0
        if recovery:
            return 0.0, np.sqrt(2 * delta / s)
        multiplier = np.sqrt((q - r**2 / s) / (2 * delta - c**2 / s))
        nu = (multiplier * c + sign * r) / s
        return 1 / multiplier, (max(0.0, nu) if not always else nu) / multiplier

    return answer


def iqm(scores, resamples, rng, cut=None, size=None, quantiles=(0.025, 0.975), replace=True):
    def middle(x):
        k = len(x) // 4 if cut is None else cut
        return np.sort(x)[k : len(x) - k].mean()

    size = len(scores) if size is None else size(len(scores))
    draws = [middle(rng.choice(scores, size, replace=replace)) for _ in range(resamples)]
    return middle(scores), *np.quantile(draws, quantiles)


def front(returns, costs, limit):
    safe = [j for j in range(len(costs)) if costs[j] <= limit]
    return undominated(returns, costs), max(safe, key=lambda j: returns[j], default=None)


RIGHT = [(check_cpo, step()), (check_iqm, iqm), (check_front, front)]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, answer):
    verdict, text = told(capsys, check, answer)
    assert verdict
    assert "right" in text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def test_the_flaws(capsys):
    assert check_flaws(lambda: REAL_FLAWS)
    for answer, sentence in (
        (None, "not solved yet"),
        ({"a"}, "4 of the real flaws not named"),
        ({"a", "d"}, "d is a matter of taste"),
        ({"z"}, "no z on the list"),
    ):
        verdict, text = told(capsys, check_flaws, lambda answer=answer: answer)
        assert not verdict
        assert sentence in text


CPO = {
    "the unsafe side": step(sign=-1.0),
    "leaves the trust region": step(length=1.5),
    "then beta should be 0": step(always=True),
    "another step brings more reward": step(recovery=True),
    "two numbers": lambda *x: step()(*x)[0],
}


@pytest.mark.parametrize("sentence", CPO)
def test_wrong_steps(capsys, sentence):
    verdict, text = told(capsys, check_cpo, CPO[sentence])
    assert not verdict
    assert sentence in text


def test_published_cpo_is_wrong_and_the_librarys_is_right(capsys):
    assert check_cpo(lambda *x: cpo.coefficients(Scalars(*x)))
    verdict, _ = told(capsys, check_cpo, step(sign=-1.0))
    assert not verdict


def first_only(change):
    return lambda *x: (change(x[0]), *iqm(*x)[1:])


IQM = {
    "plain mean": first_only(np.mean),
    "that is the median": first_only(np.median),
    "at both ends": first_only(lambda x: np.sort(x)[len(x) // 4 :].mean()),
    "sort the scores first": first_only(lambda x: x[len(x) // 4 : len(x) - len(x) // 4].mean()),
    "mean of the middle half": first_only(lambda x: 2 * x.max()),
    "three numbers": lambda *x: iqm(*x)[:2],
    "with replacement": lambda *x: iqm(*x, replace=False),
    "not of the scores": lambda *x: (iqm(*x)[0], x[0].min() - 9, x[0].max() + 9),
    "too narrow": lambda *x: iqm(*x, quantiles=(0.25, 0.75)),
}


@pytest.mark.parametrize("sentence", IQM)
def test_wrong_interquartile_means(capsys, sentence):
    verdict, text = told(capsys, check_iqm, IQM[sentence])
    assert not verdict
    assert sentence in text


def fixed(change):
    return lambda returns, costs, limit: (
        undominated(returns, costs),
        change(returns, costs, limit),
    )


def strictly_undominated(r, c):
    beaten = [((r > r[j]) & (c < c[j])).any() for j in range(len(r))]
    return np.flatnonzero(np.logical_not(beaten)).tolist()


FRONT = {
    "at *less* cost": lambda r, c, _: (undominated(r, -c), 0),
    "those are the dominated ones": lambda r, c, _: (set(range(len(r))) - undominated(r, c), 0),
    "one of yours is dominated": lambda r, c, _: (range(len(r)), 0),
    "better in one of the two": lambda r, c, _: (strictly_undominated(r, c), 0),
    "one is missing": lambda r, c, _: ([], 0),
    "two things": lambda r, c, _: [0],
    "breaks the limit": fixed(lambda r, c, _: int(np.argmax(r))),
    "the safest": fixed(lambda r, c, _: int(np.argmin(c))),
    "so there is a best one": fixed(lambda r, c, _: None),
    "the best one is then None": lambda r, c, limit: (
        (front(r, c, limit)[0], front(r, c, 99.0)[1])
        if not (c <= limit).any()
        else front(r, c, limit)
    ),
}


@pytest.mark.parametrize("sentence", FRONT)
def test_wrong_fronts(capsys, sentence, monkeypatch):
    # One world in which every mistake is a mistake: of random ones some would forgive it.
    returns = np.array([1.0, 5.0, 9.0, 12.0, 3.0, 2.0, 4.0, 6.0])
    costs = np.array([41.0, 40.0, 22.0, 39.0, 30.0, 28.0, 35.0, 38.0])

    class Fixed:
        def normal(self, *_):
            return returns

        def uniform(self, *_):
            return costs

    monkeypatch.setattr(np.random, "default_rng", lambda *_: Fixed())
    verdict, text = told(capsys, check_front, FRONT[sentence])
    assert not verdict
    assert sentence in text
