"""The checks of notebook 06: right answers pass, usual mistakes get the sentence meant for them."""

import pytest
import torch

from kfcpo_lib.exercises.nb06 import check_kl, check_rollback
from kfcpo_lib.gaussians import Gaussian


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(6)


def told(capsys, check, answer):
    verdict = check(answer)
    return verdict, capsys.readouterr().out


def kl(mean_old, log_old, mean_new, log_new):
    return Gaussian(mean_old, log_old).kl(Gaussian(mean_new, log_new))


def rollback(parameters, steps, measure, limit):
    before = [p.clone() for p in parameters]
    for p, step in zip(parameters, steps, strict=True):
        p.add_(step)
    if measure() <= limit:
        return True
    for p, old in zip(parameters, before, strict=True):
        p.copy_(old)
    return False


@pytest.mark.parametrize(("check", "answer"), [(check_kl, kl), (check_rollback, rollback)])
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, answer):
    verdict, text = told(capsys, check, answer)
    assert verdict
    assert "right" in text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def kl_of_std(mean_old, log_old, mean_new, log_new):
    distance = (log_old**2 + (mean_old - mean_new) ** 2) / (2 * log_new**2)
    return ((log_new / log_old).log() + distance - 0.5).sum(-1)


def log_ratio(a, b, c, d):
    return (d - b).sum()


KLS = {
    "wrong way round": lambda a, b, c, d: kl(c, d, a, b),
    "took their mean": lambda *x: kl(*x) / x[0].shape[1],
    "averaged over the states": lambda *x: kl(*x).mean(),
    "summed over the states": lambda *x: kl(*x).sum(),
    "*log* standard deviations": kl_of_std,
    "factor 1/2": lambda *x: 2 * (kl(*x) - log_ratio(*x)) + log_ratio(*x),
    "sign of the log ratio": lambda *x: kl(*x) - 2 * log_ratio(*x),
    "-1/2 of each dimension": lambda *x: kl(*x) + 0.5 * x[0].shape[1],
    "a dimension gives": lambda *x: 1.1 * kl(*x),
}


@pytest.mark.parametrize("sentence", KLS)
def test_wrong_kls(capsys, sentence):
    verdict, text = told(capsys, check_kl, KLS[sentence])
    assert not verdict
    assert sentence in text


def variant(
    *, copy=True, subtract=False, nan_passes=False, flip=False, move=True, early=False, ask=True
):
    def answer(parameters, steps, measure, limit):
        before = [p.clone() if copy else p for p in parameters]
        kl_early = measure() if early else 0.0
        for p, step in zip(parameters, steps, strict=True):
            if move:
                p.add_(step)
        value = kl_early if early else (measure() if ask else 0.0)
        kept = not value > limit if nan_passes else value <= limit
        for p, old, step in zip(parameters, before, steps, strict=True):
            if not kept:
                p.copy_(p - step if subtract else old)
        return kept != flip

    return answer


def undo_always(parameters, steps, measure, limit):
    before = [p.clone() for p in parameters]
    verdict = rollback(parameters, steps, measure, limit)
    for p, old in zip(parameters, before, strict=True):
        p.copy_(old)
    return verdict


def zero(parameters, steps, measure, limit):
    kept = rollback(parameters, steps, measure, limit)
    for p in parameters:
        p.mul_(float(kept))
    return kept


ROLLBACKS = {
    "only names": variant(copy=False),
    "rounds": variant(subtract=True),
    "NaN was let through": variant(nan_passes=True),
    "return True": variant(flip=True),
    "not moved in place": variant(move=False),
    "asked before": variant(early=True),
    "call kl()": variant(ask=False),
    "was not kept": undo_always,
    "old value": zero,
}


@pytest.mark.parametrize("sentence", ROLLBACKS)
def test_wrong_rollbacks(capsys, sentence):
    verdict, text = told(capsys, check_rollback, ROLLBACKS[sentence])
    assert not verdict
    assert sentence in text
