"""The checks of notebook 07: right answers pass, usual mistakes get the sentence meant for them."""

import math

import pytest
import torch

from kfcpo_lib.blending import blend, remove_component
from kfcpo_lib.exercises import nb07
from kfcpo_lib.trust_region import move, restore, snapshot


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(7)


def told(capsys, check, answer):
    verdict = check(answer)
    return verdict, capsys.readouterr().out


PARTS = [
    (nb07.check_apply, nb07.apply_block),
    (nb07.check_direction, nb07.direction),
    (nb07.check_trial, nb07.trial),
    (nb07.check_trials, nb07.run_trials),
]


@pytest.mark.parametrize(("check", "part"), PARTS)
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, part):
    verdict, text = told(capsys, check, part)
    assert verdict
    assert "right" in text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def back(block, changed):
    return block[1] @ changed @ block[0].T


def turned(block, matrix):
    return block[1].T @ matrix @ block[0]


APPLY = {
    "damping is missing": lambda m, b, d, p: back(b, b[2] ** p * turned(b, m)),
    "before the power": lambda m, b, d, p: back(b, (b[2] ** p + d) * turned(b, m)),
    "rotate back": lambda m, b, d, p: (b[2] + d) ** p * turned(b, m),
    "into the eigenbasis first": lambda m, b, d, p: back(b, (b[2] + d) ** p * m),
    "you multiply by them": lambda m, b, d, p: back(b, (b[2] + d) * turned(b, m)),
    "you divide by them": lambda m, b, d, p: back(b, turned(b, m) / (b[2] + d)),
    "in comes basis.T": lambda m, b, d, p: b[1].T @ ((b[2] + d) ** p * (b[1] @ m @ b[0].T)) @ b[0],
    "the shape": lambda m, b, d, p: m[:1],
    "it should be": lambda m, b, d, p: 0.5 * nb07.apply_block(m, b, d, p),
}


@pytest.mark.parametrize("sentence", APPLY)
def test_wrong_operators(capsys, sentence):
    verdict, text = told(capsys, nb07.check_apply, APPLY[sentence])
    assert not verdict
    assert sentence in text


def with_units(mode, swap=False, sign=1.0):
    def answer(r, c, w, inner):
        r, c = nb07.unit(r, inner), nb07.unit(c, inner)
        return nb07.unit(blend(r, sign * c, 1 - w if swap else w, mode, inner), inner)

    return answer


def plain_division(r, c, w, inner):
    if not r.any():
        return r / r.norm()
    return nb07.direction(r, c, w, inner)


def one_guard(r, c, w, inner):
    """Only the reward's gradient may be zero."""
    return nb07.direction(r, c, w, inner) if c.any() or not r.any() else r / c.norm()


def zero_for_nan(r, c, w, inner):
    """0/0 in either gradient makes the whole direction NaN, and then zero."""
    return nb07.direction(r, c, w, inner) if r.any() and c.any() else torch.zeros_like(r)


def asked_by_the_dot_product(r, c, w, inner):
    r, c = nb07.unit(r, inner), nb07.unit(c, inner)
    c = c if r @ c >= 0 else remove_component(c, r, inner)
    return nb07.unit((1 - w) * r + w * c, inner)


def without_last_unit(r, c, w, inner):
    return blend(nb07.unit(r, inner), nb07.unit(c, inner), w, "project_cost", inner)


DIRECTIONS = {
    "the blend needs unit length": without_last_unit,
    "before you blend them": lambda r, c, w, i: nb07.unit(blend(r, c, w, "project_cost", i), i),
    "swapped": with_units("project_cost", swap=True),
    "resolve the conflict": with_units("none"),
    "projected the reward": with_units("project_reward"),
    "projected both": with_units("project_both"),
    "are measured with `inner`": lambda r, c, w, i: nb07.direction(r, c, w, torch.dot),
    "is asked with `inner`": asked_by_the_dot_product,
    "already points to safety": with_units("none", sign=-1.0),
    "division by zero": plain_division,
    "yours becomes a division": one_guard,
    "the step is the other's": zero_for_nan,
    "unit lengths, then": lambda r, c, w, i: 0.3 * nb07.direction(r, c, w, i),
}


@pytest.mark.parametrize("sentence", DIRECTIONS)
def test_wrong_directions(capsys, sentence):
    for seed in range(5):
        torch.manual_seed(seed)
        verdict, text = told(capsys, nb07.check_direction, DIRECTIONS[sentence])
        assert not verdict
        assert sentence in text


def attempt(accept, undo):
    """A trial with its own test and its own way to undo."""

    def answer(parameters, step, measure_kl, limit):
        before = snapshot(parameters)
        move(parameters, step)
        kl = measure_kl()
        committed = accept(kl, limit)
        if not committed:
            undo(parameters, step, before)
        return committed, kl

    return answer


def put_back(parameters, step, before):
    restore(parameters, before)


def measured_too_early(parameters, step, measure_kl, limit):
    kl = measure_kl()
    if kl <= limit:
        move(parameters, step)
    return kl <= limit, kl


def within(kl, limit):
    return kl <= limit


TRIALS = {
    "NaN must be rolled back": attempt(lambda kl, limit: not kl > limit, put_back),
    "the limit itself": attempt(lambda kl, limit: kl < limit, put_back),
    "was not undone": attempt(within, lambda *_: None),
    "subtracting the step": attempt(within, lambda p, step, _: move(p, -step)),
    "to the bit": attempt(within, lambda p, step, _: move(p, 5.0 * step)),
    "move first": measured_too_early,
    "return two things": lambda *a: nb07.trial(*a)[0],
    "the KL that was measured": lambda *a: (nb07.trial(*a)[0], 0.0),
}


@pytest.mark.parametrize("sentence", TRIALS)
def test_wrong_trials(capsys, sentence):
    for seed in range(5):  # subtracting is now and then exact by luck
        torch.manual_seed(seed)
        verdict, text = told(capsys, nb07.check_trial, TRIALS[sentence])
        assert not verdict
        assert sentence in text


def undone_although_committed(parameters, step, measure_kl, limit):
    before = snapshot(parameters)
    committed, kl = nb07.trial(parameters, step, measure_kl, limit)
    restore(parameters, before)
    return committed, kl


def test_a_commit_that_is_undone_is_noticed(capsys):
    verdict, text = told(capsys, nb07.check_trial, undone_although_committed)
    assert not verdict
    assert "within the limit" in text


def epoch(rule, early=False, stop=False):
    def answer(pieces, try_step, delta, limit):
        verdicts = []
        for piece in pieces:
            if early:
                delta = rule(delta, True, limit)
            verdicts.append(try_step(piece, delta))
            if not early:
                delta = rule(delta, verdicts[-1], limit)
            if stop and not verdicts[-1]:
                break
        return verdicts, delta

    return answer


def clipped(delta, committed, limit):
    return min(max(delta * (1.05 if committed else 0.7), 1e-6), limit)


EPOCHS = {
    "should adapt": epoch(lambda d, v, limit: d),
    "at or below the KL limit": epoch(lambda d, v, limit: d * (1.05 if v else 0.7)),
    "at or above 1e-6": epoch(lambda d, v, limit: min(d * (1.05 if v else 0.7), limit)),
    "wrong way round": epoch(lambda d, v, limit: clipped(d, not v, limit)),
    "after the trial": epoch(clipped, early=True),
    "does not end the epoch": epoch(clipped, stop=True),
    "return two things": lambda *a: nb07.run_trials(*a)[1],
    "what try_step said": lambda *a: ([], nb07.run_trials(*a)[1]),
    "1.05 delta": epoch(lambda d, v, limit: min(2.0 * d, limit)),
}


@pytest.mark.parametrize("sentence", EPOCHS)
def test_wrong_epochs(capsys, sentence):
    verdict, text = told(capsys, nb07.check_trials, EPOCHS[sentence])
    assert not verdict
    assert sentence in text


def test_a_rollback_of_nan_is_right(capsys):
    layer = torch.nn.Linear(3, 2)
    parameters = list(layer.parameters())
    before = snapshot(parameters)
    committed, kl = nb07.trial(parameters, torch.ones(8), lambda: math.nan, 0.01)
    assert not committed
    assert math.isnan(kl)
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
