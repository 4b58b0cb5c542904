"""The checks of notebook 05: right answers pass, usual mistakes get the sentence meant for them."""

import math

import pytest
import torch

from kfcpo_lib.blending import blend, margin_weights, remove_component, resolve_conflict
from kfcpo_lib.exercises.nb05 import (
    check_blend,
    check_projection,
    check_weights,
    two_directions,
)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(5)


def sigmoid(x):
    return 1 / (1 + math.exp(-max(min(x, 700), -700)))


def pair(exponent):
    return 1 - sigmoid(exponent), sigmoid(exponent)


def metric(fisher):
    return lambda u, v: u @ fisher @ v


def project(direction, obstacle, fisher):
    return resolve_conflict(direction, obstacle, 0.5, "project_reward", metric(fisher))[0]


def right_blend(reward, cost, cost_weight, fisher):
    return blend(reward, cost, cost_weight, "project_cost", metric(fisher))


def told(capsys, check, answer):
    verdict = check(answer)
    return verdict, capsys.readouterr().out


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_weights, margin_weights),
        (check_projection, project),
        (check_blend, right_blend),
    ],
)
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, answer):
    verdict, text = told(capsys, check, answer)
    assert verdict
    assert "right" in text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def naive_weights(c, limit, m, k):
    w_c = 1 / (1 + math.exp(-k * (c - m * limit)))
    return 1 - w_c, w_c


def naive_on_the_other_side(c, limit, m, k):
    growth = math.exp(k * (c - m * limit))
    return 1 / (1 + growth), growth / (1 + growth)


def blunt_below(c, limit, m, k):
    w_r, w_c = margin_weights(c, limit, m, k)
    return (w_r, w_c) if k * (c - m * limit) > -700 else (0.0, 1.0)


def blunt_above(c, limit, m, k):
    w_r, w_c = margin_weights(c, limit, m, k)
    return (w_r, w_c) if k * (c - m * limit) < 700 else (math.nan, math.nan)


WEIGHTS = {
    "far below the centre an exponential overflows": naive_weights,
    "far above the centre an exponential overflows": naive_on_the_other_side,
    "far below the centre the weights should be (1, 0)": blunt_below,
    "far above the centre the weights should be (0, 1)": blunt_above,
    "swapped": lambda c, limit, m, k: margin_weights(c, limit, m, k)[::-1],
    "add up to 1": lambda c, limit, m, k: (1.0, margin_weights(c, limit, m, k)[1]),
    "centred at C": lambda c, limit, m, k: pair(k * (c - limit)),
    "not the ratio": lambda c, limit, m, k: pair(k * (c / limit - m)),
    "divide by k": lambda c, limit, m, k: pair((c - m * limit) / k),
    "k is missing": lambda c, limit, m, k: pair(c - m * limit),
    "two numbers": lambda c, limit, m, k: margin_weights(c, limit, m, k)[1],
    "at c_ep = lambda": lambda *_: (0.3, 0.7),
}


@pytest.mark.parametrize("sentence", WEIGHTS)
def test_wrong_weights(capsys, sentence):
    verdict, text = told(capsys, check_weights, WEIGHTS[sentence])
    assert not verdict
    assert sentence in text


def if_conflict(change):
    def answer(d, o, f):
        return d if d @ f @ o >= 0 else change(d, o, metric(f))

    return answer


def component(d, o, inner):
    return inner(d, o) / inner(o, o) * o


PROJECTIONS = {
    "nothing should change": lambda d, o, f: remove_component(d, o, metric(f)),
    "dot product": if_conflict(lambda d, o, i: remove_component(d, o)),
    "wrong vector": if_conflict(lambda d, o, i: remove_component(o, d, i)),
    "wrong sign": if_conflict(lambda d, o, i: d + component(d, o, i)),
    "you kept": if_conflict(component),
    "need not have length 1": if_conflict(lambda d, o, i: d - i(d, o) * o),
    "not by its root": if_conflict(lambda d, o, i: d - i(d, o) / i(o, o).sqrt() * o),
    "nothing was taken away": lambda d, o, f: d,
    "changes its arguments": lambda d, o, f: d.mul_(1.5),
    "should be 0": if_conflict(lambda d, o, i: 0.3 * d),
    "shape": lambda d, o, f: d[:1],
}


@pytest.mark.parametrize("sentence", PROJECTIONS)
def test_wrong_projections(capsys, sentence):
    verdict, text = told(capsys, check_projection, PROJECTIONS[sentence])
    assert not verdict
    assert sentence in text


def asked_by_the_dot_product(d, o, f):
    return d if d @ o >= 0 else remove_component(d, o, metric(f))


def blend_asked_by_the_dot_product(r, c, w, f):
    return (1 - w) * r + w * asked_by_the_dot_product(c, r, f)


def test_whether_there_is_a_conflict_is_asked_in_the_fisher_metric(capsys):
    for seed in range(20):  # the dot product is right by luck in most of the random cases
        torch.manual_seed(seed)
        verdict, text = told(capsys, check_projection, asked_by_the_dot_product)
        assert not verdict
        assert "nothing was taken away, though the two disagree in the Fisher metric" in text
        verdict, text = told(capsys, check_blend, blend_asked_by_the_dot_product)
        assert not verdict
        assert "the conflict is measured in the Fisher metric" in text


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize("misleading", [True, False])
def test_two_directions_are_as_they_are_ordered(conflict, misleading):
    direction, obstacle, fisher = two_directions(3, conflict, misleading=misleading)
    assert bool(direction @ fisher @ obstacle < 0) == conflict
    assert bool(direction @ obstacle < 0) == (conflict != misleading)


def mode(name):
    return lambda r, c, w, f: blend(r, c, w, name, metric(f))


def blend_in_place(r, c, w, f):
    """Projects the reward instead of the cost, and writes over it."""
    if c @ f @ r < 0:
        r -= (c @ f @ r) / (c @ f @ c) * c
    return (1 - w) * r + w * c


BLENDS = {
    "changes its arguments": blend_in_place,
    "swapped": lambda r, c, w, f: right_blend(r, c, 1 - w, f),
    "resolve the conflict": mode("none"),
    "projected the reward": mode("project_reward"),
    "projected both": mode("project_both"),
    "Fisher metric": lambda r, c, w, f: blend(r, c, w),
    "already points to safety": lambda r, c, w, f: (1 - w) * r - w * c,
    "it should be": lambda r, c, w, f: 0.5 * right_blend(r, c, w, f),
}


@pytest.mark.parametrize("sentence", BLENDS)
def test_wrong_blends(capsys, sentence):
    verdict, text = told(capsys, check_blend, BLENDS[sentence])
    assert not verdict
    assert sentence in text
