"""Notebook 01's checks: right answers pass, the usual wrong ones are told apart."""

import numpy as np
import pytest
import torch

from kfcpo_lib import rollouts
from kfcpo_lib.exercises.nb01 import check_gae, check_score_gradient, check_surrogate


def score(actions, rewards, mean, std, baseline):
    return ((rewards - baseline) * (actions - mean) / std**2).mean()


def gae(reward, value, next_value, terminated, truncated, discount, gae_lambda, **slip):
    """Right, or with a slip: which episodes have no future, where the sum stops, its factor."""
    no_future = {"none": terminated & False, "both": terminated | truncated}
    futureless = no_future.get(slip.get("no_future"), terminated)
    stops = {"never": terminated & False, "terminated": terminated}
    over = stops.get(slip.get("stop"), terminated | truncated)
    factor = slip.get("factor", discount * gae_lambda)
    surprise = reward + discount * next_value * ~futureless - value
    advantage, running = np.zeros_like(reward), 0.0
    steps = range(len(reward)) if slip.get("forwards") else reversed(range(len(reward)))
    for t in steps:
        running = surprise[t] + factor * ~over[t] * running
        advantage[t] = running
    return advantage


def surrogate(log_prob, old, advantage):
    return ((log_prob - old).exp() * advantage).mean()


RIGHT = [
    (check_score_gradient, score),
    (check_gae, gae),
    (check_gae, rollouts.gae),
    (check_surrogate, surrogate),
]
WRONG = [
    (check_score_gradient, lambda a, r, m, s, b: score(a, r, m, s, 0.0), "baseline is missing"),
    (check_score_gradient, lambda *i: -score(*i), "sign is turned"),
    (check_score_gradient, lambda a, r, m, s, b: score(a, r, m, s, b) * s, "not by std"),
    (check_score_gradient, lambda a, r, m, s, b: score(a, r, m, 1.0, b), "variance is missing"),
    (check_score_gradient, lambda *i: 12 * score(*i), "sum of the pulls"),
    (check_score_gradient, lambda a, r, m, s, b: (r - b) * (a - m) / s**2, "one pull per try"),
    (check_gae, lambda *i: gae(*i, no_future="both"), "truncated episode still has a future"),
    (check_gae, lambda *i: gae(*i, no_future="none"), "terminated episode has no future"),
    (check_gae, lambda *i: gae(*i, stop="never"), "next episode leaks"),
    (check_gae, lambda *i: gae(*i, stop="terminated"), "goes on after a truncation"),
    (check_gae, lambda *i: gae(*i, factor=i[5]), "gae_lambda is missing"),
    (check_gae, lambda *i: gae(*i, factor=i[6]), "discount is missing"),
    (check_gae, lambda *i: gae(*i, factor=0.0), "only the surprises"),
    (check_gae, lambda *i: gae(*i) + i[1], "targets"),
    (check_gae, lambda *i: gae(*i, forwards=True), "swept forwards"),
    (check_gae, lambda *i: gae(*i)[0], "should have the shape"),
    (check_surrogate, lambda n, o, a: surrogate(o, n, a), "upside down"),
    (check_surrogate, lambda n, o, a: ((n - o) * a).mean(), "exponential is missing"),
    (check_surrogate, lambda n, o, a: surrogate(n.detach(), o, a), "no gradient flows"),
    (check_surrogate, lambda n, o, a: surrogate(n, o, a).item(), "no gradient flows"),
    (
        check_surrogate,
        lambda n, o, a: surrogate(n.detach(), o, a).requires_grad_(),
        "not its gradient in log_prob",
    ),
    (
        check_surrogate,
        lambda n, o, a: torch.tensor(surrogate(n, o, a).item(), requires_grad=True),
        "not its gradient in log_prob",
    ),
    (
        check_surrogate,
        lambda n, o, a: surrogate(n.detach(), o, a) + 0 * n.sum(),
        "not its gradient in log_prob",
    ),
    (check_surrogate, lambda n, o, a: (n * a).mean(), "not the surrogate"),
    (check_surrogate, lambda n, o, a: (n.exp() * a).mean(), "old policy is missing"),
    (check_surrogate, lambda n, o, a: -surrogate(n, o, a), "sign is turned"),
    (check_surrogate, lambda n, o, a: 20 * surrogate(n, o, a), "sum over the samples"),
    (check_surrogate, lambda n, o, a: (n - o).exp() * a, "one number per sample"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, capsys):
    for _ in range(5):
        assert check(answer), capsys.readouterr().out


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_usual_slips_are_named(check, answer, words, capsys):
    for _ in range(3):
        assert not check(answer)
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in RIGHT))
def test_a_stub_is_not_solved_yet(check, capsys):
    assert not check(lambda *_: None)
    assert "not solved yet" in capsys.readouterr().out
