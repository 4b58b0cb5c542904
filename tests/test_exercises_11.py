"""The checks of notebook 11: right answers pass, usual mistakes get the sentence meant for them."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from kfcpo_lib.algorithms.surrogates import Surrogates, surrogates
from kfcpo_lib.blending import margin_weights
from kfcpo_lib.diagnosis import (
    COST_ABOVE,
    KL_BEYOND,
    NOT_FINITE,
    ONE_LINE,
    OSCILLATING,
    STALLED,
    SUPPRESSED,
    WRONG_WEIGHT,
    Diagnosis,
    Finding,
)
from kfcpo_lib.exercises import nb11
from kfcpo_lib.faults import (
    aliased_snapshot,
    broadcast_product,
    decomposed_once,
    flipped_cost_sign,
    one_critic_twice,
    swapped_weights,
    truncation_as_end,
)
from kfcpo_lib.kfac import KroneckerBlock
from kfcpo_lib.policies import Critics
from kfcpo_lib.rollouts import gae
from kfcpo_lib.trust_region import snapshot


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(11)


def told(capsys, check, *answers):
    verdict = check(*answers)
    return verdict, capsys.readouterr().out


def mean_change(weight):
    return weight.diff().abs().mean()


def signatures(
    tail,
    *,
    limit=1.1,
    undone=0.5,
    change=mean_change,
    jump=0.45,
    safe=0.6,
    weight=0.3,
    average=pd.Series.mean,
    first=False,
):
    cost = average(tail["episodic_cost_mean"] / tail["cost_limit"])
    seen = {
        "cost": cost > limit,
        "stalled": tail["rollbacks"].sum() / tail["minibatches"].sum() >= undone,
        "oscillating": change(tail["cost_weight"]) >= jump,
        "suppressed": cost <= safe and tail["cost_weight"].mean() >= weight,
    }
    found = [name for name in seen if seen[name]]
    return found[:1] if first else found


def guard(ratio, advantage):
    if ratio.ndim != 1 or ratio.shape != advantage.shape:
        raise ValueError


def decompose(block):
    KroneckerBlock.decompose(block)


def damping(dampings, promised, true):
    return min(d for d, kl in zip(dampings, true, strict=True) if kl <= 2.0 * promised)


RIGHT = [
    (nb11.check_signatures, signatures),
    (nb11.check_surrogates, surrogates),
    (nb11.check_guard, guard),
    (nb11.check_weights, margin_weights),
    (nb11.check_snapshot, snapshot),
    (nb11.check_snapshot, lambda ps: copy.deepcopy([*ps])),
    (nb11.check_critics, Critics.forward),
    (nb11.check_decompose, decompose),
    (nb11.check_damping, damping),
    (nb11.check_gae, gae),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_and_stubs_are_not_solved_yet(capsys, check, answer):
    for _ in range(3):
        verdict, text = told(capsys, check, answer)
        assert verdict, text
    verdict, text = told(capsys, check, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def guard_of_lengths(ratio, advantage):
    if len(ratio) != len(advantage):
        raise ValueError


def guard_of_shapes(ratio, advantage):
    if ratio.shape != advantage.shape:
        raise ValueError


def guard_of_everything(ratio, advantage):
    if ratio.shape != advantage.shape or ratio.ndim != 1 or len(ratio) == 1:
        raise ValueError


def swapped_advantages(present, batch):
    return Surrogates(*surrogates(present, batch)[::-1])


def decompose_sums(block):
    values_a, block.input_basis = torch.linalg.eigh(block.input_factor)
    values_g, block.output_basis = torch.linalg.eigh(block.output_factor)
    block.eigenvalues = values_g[:, None] + values_a[None, :]


def without_end(r, v, n, terminated, truncated, g, lam):
    return gae(r, v, n, np.zeros_like(terminated), terminated | truncated, g, lam)


def running_on(r, v, n, terminated, truncated, g, lam):
    return gae(r, v, n, terminated, np.zeros_like(truncated), g, lam)


def let_nan_pass(dampings, promised, true):
    return min(d for d, kl in zip(dampings, true, strict=True) if not kl > 2.0 * promised)


def largest_change(weight):
    return weight.diff().abs().max()


def last(cost):
    return cost.iloc[-1]


WRONG = [
    (nb11.check_signatures, lambda t: signatures(t, limit=0.8), "not above its limit"),
    (nb11.check_signatures, lambda t: signatures(t, safe=1.0), "takes both"),
    (nb11.check_signatures, lambda t: signatures(t, change=pd.Series.mean, jump=0.9), "harmless"),
    (nb11.check_signatures, lambda t: signatures(t, limit=1.0), "not above its limit"),
    (nb11.check_signatures, lambda t: signatures(t, limit=1.25), "a mean cost above 1.1 C"),
    (nb11.check_signatures, lambda t: signatures(t, average=pd.Series.max), "compare the mean"),
    (nb11.check_signatures, lambda t: signatures(t, average=last), "compare the mean"),
    (nb11.check_signatures, lambda t: signatures(t, undone=0.2), "some undone steps are healthy"),
    (nb11.check_signatures, lambda t: signatures(t, undone=0.51), "half of the steps undone"),
    (nb11.check_signatures, lambda t: signatures(t, jump=0.1), "a single jump"),
    (nb11.check_signatures, lambda t: signatures(t, jump=0.3), "the mean change has to be 0.45"),
    (nb11.check_signatures, lambda t: signatures(t, jump=0.6), "harmless mean"),
    (nb11.check_signatures, lambda t: signatures(t, change=largest_change), "a single jump"),
    (nb11.check_signatures, lambda t: signatures(t, change=pd.Series.std, jump=0.4), "harmless"),
    (nb11.check_signatures, lambda t: signatures(t, weight=0.0), "takes both"),
    (nb11.check_signatures, lambda t: signatures(t, weight=0.2), "takes both"),
    (nb11.check_signatures, lambda t: signatures(t, weight=0.5), "that is suppressed"),
    (nb11.check_signatures, lambda t: signatures(t, safe=0.45), "that is suppressed"),
    (nb11.check_signatures, lambda t: signatures(t, safe=0.85), "takes both"),
    (nb11.check_signatures, lambda t: signatures(t, first=True), "collect them all"),
    (nb11.check_signatures, lambda t: "cost", "a list of names"),
    (nb11.check_signatures, lambda t: ["tired"], "no signature 'tired'"),
    (nb11.check_signatures, lambda t: [], "judged wrongly"),
    (nb11.check_surrogates, flipped_cost_sign, "still has its minus"),
    (nb11.check_surrogates, broadcast_product, "leave the ratio as it is"),
    (nb11.check_surrogates, swapped_advantages, "swapped"),
    (nb11.check_surrogates, lambda p, b: (torch.ones(()), torch.ones(())), "mean of ratio"),
    (nb11.check_guard, guard_of_lengths, "[4, 1] and [4] were let through"),
    (nb11.check_guard, guard_of_shapes, "[4, 1] and [4, 1] should raise"),
    (nb11.check_guard, guard_of_everything, "with B = 1"),
    (nb11.check_weights, swapped_weights, "still swapped"),
    (nb11.check_weights, lambda c, limit, lam, k: margin_weights(c, limit, 1.0, k), "not C"),
    (nb11.check_weights, lambda *_: (0.5, 0.5), "w_r = 1 - w_c"),
    (nb11.check_snapshot, aliased_snapshot, "shares memory"),
    (nb11.check_snapshot, lambda ps: [p.clone() for p in ps], "detach them"),
    (nb11.check_snapshot, lambda ps: [*ps], "shares memory"),
    (nb11.check_snapshot, lambda ps: (p.detach().clone() for p in ps), "a generator copies only"),
    (nb11.check_snapshot, lambda ps: [next(ps).detach().clone()], "one copy for each"),
    (nb11.check_snapshot, lambda ps: [p.detach().clone() + 0.5 for p in ps], "old values"),
    (nb11.check_critics, one_critic_twice, "from one critic"),
    (nb11.check_critics, lambda c, obs: c(obs)[::-1], "swapped"),
    (nb11.check_critics, lambda c, obs: (c.reward(obs), c.cost(obs)), "the shape"),
    (nb11.check_decompose, decomposed_once, "refresh every time"),
    (nb11.check_decompose, decompose_sums, "the product"),
    (nb11.check_damping, lambda d, *_: max(d), "as little as keeps"),
    (nb11.check_damping, let_nan_pass, "a KL of NaN"),
    (nb11.check_damping, lambda *_: 0.123, "the smallest damping"),
    (nb11.check_gae, truncation_as_end, "its last state has a future"),
    (nb11.check_gae, without_end, "counts as 0"),
    (nb11.check_gae, running_on, "must not run on"),
    (nb11.check_gae, lambda *a: 0.5 * gae(*a), "mask V"),
]


@pytest.mark.parametrize(("check", "answer", "sentence"), WRONG)
def test_usual_mistakes_get_their_sentence(capsys, check, answer, sentence):
    for _ in range(3):
        verdict, text = told(capsys, check, answer)
        assert not verdict
        assert sentence in text


# ------------------------------------------------------------------------------------- treatments

GOOD = {
    "weak_k": {"steepness_k": 0.5},
    "long_steps": {"adaptive_delta": True},
    "steep_k": {"steepness_k": 0.1},
    "low_lambda": {"margin_lambda": 0.8},
}


def cured(name, settings):
    """Only these very settings heal; everything else leaves the patient's signature."""
    ill = () if settings == GOOD[name] else (Finding(nb11.ILL[name], "", ""),)
    return Diagnosis(3, ill)


def test_treatments(capsys):
    verdict, text = told(capsys, nb11.check_treatments, lambda: GOOD, cured)
    assert verdict, text
    wrong = {
        "not solved yet": {},
        "no treatment for weak_k yet": GOOD | {"weak_k": {}},
        "cures the thermometer": GOOD | {"weak_k": {"cost_limit": 99.0}},
        "a KL limit above 0.1 is no limit": GOOD | {"long_steps": {"kl_limit": 1_000.0}},
        "num_envs is not what ails steep_k": GOOD | {"steep_k": {"num_envs": 3}},
        "low_lambda is not well yet": GOOD | {"low_lambda": {"margin_lambda": 0.1}},
    }
    for sentence, plans in wrong.items():
        verdict, text = told(capsys, nb11.check_treatments, lambda plans=plans: plans, cured)
        assert not verdict
        assert sentence in text


def test_a_larger_kl_limit_is_a_treatment(capsys):
    plans = GOOD | {"long_steps": {"kl_limit": 0.1, "adaptive_delta": True}}
    healed = Diagnosis(3, ())
    verdict, text = told(capsys, nb11.check_treatments, lambda: plans, lambda *_: healed)
    assert verdict, text


@pytest.mark.parametrize(
    "illness",
    [COST_ABOVE, STALLED, OSCILLATING, KL_BEYOND, WRONG_WEIGHT, NOT_FINITE, ONE_LINE],
)
def test_a_treatment_must_not_bring_another_illness(capsys, illness):
    def other(name, settings):
        """Every patient loses its illness, and steep_k, or else weak_k, catches another."""
        caught = name == ("weak_k" if illness == OSCILLATING else "steep_k")
        return Diagnosis(3, (Finding(illness, "", ""),) if caught else ())

    verdict, text = told(capsys, nb11.check_treatments, lambda: GOOD, other)
    assert not verdict
    assert f"has lost its illness and caught another: {illness}" in text


@pytest.mark.parametrize(("patient", "left"), [("weak_k", SUPPRESSED), ("long_steps", COST_ABOVE)])
def test_what_takes_more_epochs_is_no_other_illness(capsys, patient, left):
    def slow(name, settings):
        return Diagnosis(3, (Finding(left, "", ""),) if name == patient else ())

    verdict, text = told(capsys, nb11.check_treatments, lambda: GOOD, slow)
    assert verdict, text
