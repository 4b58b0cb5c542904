"""Checks of notebook 11: reading a chart, treating four patients, mending eight silent bugs."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kfcpo_lib.algorithms.surrogates import likelihood_ratio, surrogates
from kfcpo_lib.blending import margin_weights
from kfcpo_lib.diagnosis import COST_ABOVE, OSCILLATING, STALLED, SUPPRESSED, Diagnosis
from kfcpo_lib.exercises.checking import Wrong, close, exercise, same_shape, solved
from kfcpo_lib.faults import truncation_as_end
from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac import KroneckerBlock
from kfcpo_lib.policies import Critics
from kfcpo_lib.rollouts import gae

SIGNATURES = ("cost", "stalled", "oscillating", "suppressed")
"""Short names of the four failure signatures."""
ILL = {
    "weak_k": COST_ABOVE,
    "long_steps": STALLED,
    "steep_k": OSCILLATING,
    "low_lambda": SUPPRESSED,
}
"""The patients whose settings are wrong, and what each of them shows."""
MAY_LAST = dict.fromkeys(ILL, (SUPPRESSED,)) | {"long_steps": (SUPPRESSED, COST_ABOVE)}
"""What a treatment may leave. A reward that is suppressed may need more epochs to come back; so may
the cost of long_steps, which has no youth: whoever begins to drive hits things first."""
LARGEST_KL_LIMIT = 0.1
TREATABLE = ("margin_lambda", "steepness_k", "episodic_cost_window", "kl_limit")
"""Settings that a treatment may change, beside those of the rule."""
CHARTS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    ((), {}),
    (("cost",), {"share": 1.3}),
    (("suppressed",), {"share": 0.4}),
    (("stalled",), {"undone": 7}),
    (("oscillating",), {"weight": (0.9, 0.1) * 3}),
    (("cost", "stalled"), {"share": 1.3, "undone": 7}),
    ((), {"share": 1.05}),
    ((), {"share": (0.8, 0.8, 0.8, 0.8, 0.8, 1.4)}),
    ((), {"share": 0.4, "weight": 0.25}),
    ((), {"share": 0.65}),
    ((), {"undone": 3}),
    ((), {"weight": (0.8, 0.8, 0.8, 0.2, 0.2, 0.2)}),
    ((), {"weight": (0.8, 0.4) * 3}),
    (("cost",), {"share": 1.15}),
    (("suppressed",), {"share": 0.55, "weight": 0.35}),
    (("stalled",), {"undone": 4}),
    (("oscillating",), {"weight": (0.75, 0.25) * 3}),
)
"""Six epochs each, on both sides of every threshold: signatures, and what `_tail` takes."""
_random = np.random.default_rng()


@exercise("read the chart")
def check_signatures(student: Callable[[pd.DataFrame], Any]) -> None:
    """student(tail) -> names of the signatures that the last epochs of a run show."""
    for sick, looks in CHARTS:
        for limit in (10.0, 25.0):
            answer = solved(student(_tail(limit, **looks)))
            if isinstance(answer, str):
                raise Wrong("return a list of names, an empty one for a healthy run.")
            if {*answer} != {*sick}:
                raise Wrong(_chart_mistake({*answer}, {*sick}))


def _tail(
    limit: float,
    share: float | Sequence[float] = 0.9,
    weight: float | Sequence[float] = 0.6,
    undone: int = 1,
) -> pd.DataFrame:
    """Six epochs: costs as shares of the limit, weights of the cost, and steps undone of eight."""
    return pd.DataFrame(
        {
            "episodic_cost_mean": np.multiply(share, limit) + 0.01 * _random.standard_normal(6),
            "cost_limit": limit,
            "margin_lambda": 0.8,
            "cost_weight": np.broadcast_to(weight, 6),
            "rollbacks": undone,
            "minibatches": 8,
        }
    )


SEEN_TOO_MUCH = {
    "cost": "a cost up to 1.1 C is not above its limit: compare the mean with 1.1 cost_limit.",
    "stalled": "stalled takes at least half of all steps undone; some undone steps are healthy.",
    "oscillating": "a single jump does not oscillate: the mean change has to be 0.45 or more.",
    "suppressed": "suppressed takes both: a cost of at most 0.6 C, and a weight of at least 0.3.",
}
SEEN_TOO_LITTLE = {
    "cost": "a mean cost above 1.1 C was judged wrongly: that is above its limit.",
    "stalled": "half of the steps undone, or more, was judged wrongly: that is stalled.",
    "oscillating": "a weight that jumps has a harmless mean: look at its changes, "
    "diff().abs().mean(), which are 0.45 or more.",
    "suppressed": "a mean cost up to 0.6 C with a mean weight from 0.3 on was judged wrongly: that "
    "is suppressed.",
}
"""What to say if a chart's one wrong name is this."""


def _chart_mistake(answer: set[str], sick: set[str]) -> str:
    if unknown := answer - {*SIGNATURES}:
        return f"there is no signature {unknown.pop()!r}; there are {', '.join(SIGNATURES)}."
    if answer and answer < sick:
        return "a run can show several signatures: collect them all."
    missed, extra = sorted(sick - answer), sorted(answer - sick)
    if len(extra) == 1:
        return SEEN_TOO_MUCH[extra[0]]
    if len(missed) == 1 and not extra:
        return SEEN_TOO_LITTLE[missed[0]]
    return f"a run was judged wrongly: missed {missed}, seen without cause {extra}."


@exercise("treat the four patients")
def check_treatments(
    student: Callable[[], Any], treat: Callable[[str, Mapping[str, Any]], Diagnosis]
) -> None:
    """student() -> {patient: changed settings}; treat(patient, settings) trains and diagnoses."""
    plans = solved(student())
    if not any(plans.get(name) for name in ILL):
        raise NotImplementedError
    if missing := [name for name in ILL if not plans.get(name)]:
        raise Wrong(f"there is no treatment for {', '.join(missing)} yet.")
    for name in ILL:
        for setting in plans[name]:
            if setting == "cost_limit":
                raise Wrong("a higher cost limit cures the thermometer, not the patient.")
            if setting not in (*TREATABLE, "adaptive_delta", "delta_start"):
                raise Wrong(f"{setting} is not what ails {name}; try one of the chart's settings.")
        if plans[name].get("kl_limit", 0.0) > LARGEST_KL_LIMIT:
            raise Wrong(f"a KL limit above {LARGEST_KL_LIMIT} is no limit: it cures nothing.")
        seen = treat(name, plans[name]).signatures
        if ILL[name] in seen:
            raise Wrong(f"{name} is not well yet: it still shows {ILL[name]}.")
        for illness in seen:
            if illness not in MAY_LAST[name]:
                raise Wrong(f"{name} has lost its illness and caught another: {illness}.")


@exercise("surrogates")
def check_surrogates(student: Callable[[Gaussian, Any], Any]) -> None:
    """student(present, batch) -> (L_r, L_c), uphill in reward and uphill in cost."""
    for size in (6, 9):
        mean, log_std = torch.randn(size, 2), torch.zeros(2)
        old, present = Gaussian(mean, log_std), Gaussian(mean + 0.1 * torch.randn(size, 2), log_std)
        actions = mean + torch.randn(size, 2)
        names = ("advantage_reward", "advantage_cost")
        batch: Any = SimpleNamespace(
            actions=actions,
            log_prob=old.log_prob(actions),
            **{name: torch.randn(size) for name in names},
        )
        answer = solved(student(present, batch))
        reward, cost = surrogates(present, batch)
        ratio = likelihood_ratio(present, batch)
        if close(answer[0], reward, 1e-5) and close(answer[1], -cost, 1e-5):
            raise Wrong(
                "the cost still has its minus: L_c is uphill in cost, KFCPO turns it later."
            )
        if close(answer[0], ratio.mean() * batch.advantage_reward.mean(), 1e-5):
            raise Wrong("[B, 1] times [B] is [B, B]: leave the ratio as it is, [B].")
        if close(answer[0], cost, 1e-5):
            raise Wrong("the advantages are swapped: reward first.")
        if not (close(answer[0], reward, 1e-5) and close(answer[1], cost, 1e-5)):
            raise Wrong("L_r is the mean of ratio * A_r, L_c the mean of ratio * A_c.")


@exercise("shape guard")
def check_guard(student: Callable[[Tensor, Tensor], Any]) -> None:
    """student(ratio, advantage) raises ValueError unless both are [B] of one length."""
    if student(torch.ones(4), torch.ones(4)) is None and not _refuses(student, (4, 1), (4,)):
        if not _refuses(student, (3,), (4,)):
            raise NotImplementedError
        raise Wrong("[4, 1] and [4] were let through: they have one length, but not one shape.")
    for left, right in (((4, 1), (4,)), ((4,), (4, 1)), ((3,), (4,)), ((), (4,)), ((4, 1), (4, 1))):
        if not _refuses(student, left, right):
            raise Wrong(f"{[*left]} and {[*right]} should raise a ValueError.")
    if _refuses(student, (1,), (1,)):
        raise Wrong("[1] and [1] are both [B], with B = 1: let them through.")


def _refuses(student: Callable[[Tensor, Tensor], Any], *shapes: tuple[int, ...]) -> bool:
    try:
        student(*(torch.ones(shape) for shape in shapes))
    except ValueError:
        return True
    return False


@exercise("weights")
def check_weights(student: Callable[[float, float, float, float], Any]) -> None:
    """student(episodic_cost, cost_limit, margin_lambda, steepness_k) -> (w_r, w_c)."""
    for cost in (3.0, 19.0, 40.0):
        numbers = cost, 20.0 + 5.0 * _random.random(), 0.8, 0.1 + 0.2 * _random.random()
        answer, right = solved(student(*numbers)), margin_weights(*numbers)
        if close(answer, right[::-1]) and not close(answer, right):
            raise Wrong("still swapped: w_r comes first, and w_c is the one that grows with cost.")
        if close(answer[1], margin_weights(numbers[0], numbers[1], 1.0, numbers[3])[1]):
            raise Wrong("the centre is λC, not C.")
        if not close(answer, right):
            raise Wrong("w_c = sigmoid(k (c_ep - λC)), w_r = 1 - w_c, returned as (w_r, w_c).")


@exercise("snapshot")
def check_snapshot(student: Callable[[Any], Any]) -> None:
    """student(parameters) -> copies that stay when the parameters move."""
    layer = nn.Linear(3, 2)
    before = [parameter.detach().numpy().copy() for parameter in layer.parameters()]
    copies = solved(student(iter(layer.parameters())))
    if not isinstance(copies, list | tuple):
        raise Wrong("return a list: a generator copies only when it is asked, after the move.")
    if len(copies) != len(before):
        raise Wrong("one copy for each parameter is expected.")
    if any(copied.grad_fn is not None for copied in copies):
        raise Wrong("the copies still hang on the graph: detach them.")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)
    if any(close(c, p) for c, p in zip(copies, layer.parameters(), strict=True)):
        raise Wrong(
            "your copies moved with the parameters: detach() shares memory, clone() copies."
        )
    if not all(close(copied, old) for copied, old in zip(copies, before, strict=True)):
        raise Wrong("the copies should have the parameters' old values.")


@exercise("two critics")
def check_critics(student: Callable[[Critics, Tensor], Any]) -> None:
    """student(critics, obs) -> (V_r, V_c)."""
    critics = Critics(5, (4,))
    for shape in ((7,), (3, 2)):
        obs = torch.randn(*shape, 5)
        answer, right = solved(student(critics, obs)), critics(obs)
        for value, expected in zip(answer, right, strict=True):
            same_shape(value, expected, "each value")
        if close(answer[0], answer[1]):
            raise Wrong("both values come from one critic.")
        if close(answer[0], right[1]):
            raise Wrong("the critics are swapped: reward first.")
        if not all(close(value, expected) for value, expected in zip(answer, right, strict=True)):
            raise Wrong("ask critics.reward for V_r and critics.cost for V_c.")


@exercise("fresh eigendecompositions")
def check_decompose(student: Callable[[KroneckerBlock], Any]) -> None:
    """student(block) sets input_basis, output_basis and eigenvalues from the block's factors."""
    mine, right = KroneckerBlock.of(nn.Linear(3, 2)), KroneckerBlock.of(nn.Linear(3, 2))
    for round_number in range(3):
        inputs, scores = torch.randn(30, 4), torch.randn(30, 2)
        for block in (mine, right):
            block.input_factor, block.output_factor = inputs.T @ inputs, scores.T @ scores
        student(mine)
        right.decompose()
        if close(mine.dense(), right.dense(), 1e-4):
            continue
        if not mine.eigenvalues.any():
            raise NotImplementedError
        if round_number:
            raise Wrong("the factors had changed, the decomposition had not: refresh every time.")
        raise Wrong("eigenvalues[i, j] is the product of G's i-th and A's j-th eigenvalue.")


@exercise("damping")
def check_damping(student: Callable[[Any, float, Any], Any]) -> None:
    """student(dampings, promised, true) -> the smallest damping whose first step costs at most
    twice what was promised."""
    cases = (
        ([0.0, 1e-4, 1e-2, 1.0], [math.nan, 9.0, 1.6, 0.6]),
        ([1.0, 0.1, 0.01], [0.5, 1.1, 3.0]),
        ([0.0, 0.1, 1.0, 10.0], [math.inf, 2.5, 2.0, 0.1]),
    )
    for dampings, factors in cases:
        promised = 1e-3 * (1 + _random.random())
        true = [factor * promised for factor in factors]
        kept = [d for d, kl in zip(dampings, true, strict=True) if kl <= 2.0 * promised]
        answer = solved(student([*dampings], promised, true))
        if close(answer, min(kept)):
            continue
        if close(answer, max(dampings)):
            raise Wrong("as little as keeps the promise: more damping only makes steps shorter.")
        if answer in dampings and math.isnan(true[dampings.index(answer)]):
            raise Wrong("a KL of NaN keeps no promise: ask for kl <= 2 * promised.")
        raise Wrong("the smallest damping whose true KL is at most twice the promised one.")


@exercise("truncation")
def check_gae(student: Callable[..., Any]) -> None:
    """student(reward, value, next_value, terminated, truncated, discount, gae_lambda) -> [T, N]."""
    for steps, worlds in ((12, 3), (7, 2)):
        reward, value, next_value = _random.standard_normal((3, steps, worlds))
        ends = _random.random((2, steps, worlds)) < 0.2
        terminated, truncated = ends[0], ends[1] & ~ends[0]
        for array in (terminated, truncated):
            array[-1], array[2:4] = array is truncated, False
        terminated[2], truncated[3] = True, True
        numbers = reward, value, next_value, terminated, truncated, 0.95, 0.9
        answer, right = solved(student(*numbers)), gae(*numbers)
        same_shape(answer, right, "the advantage")
        if close(answer, right):
            continue
        if close(answer, truncation_as_end(*numbers)):
            raise Wrong("a truncated episode still counts as ended: its last state has a future.")
        if close(
            answer,
            gae(reward, value, next_value, 0 * terminated > 1, terminated | truncated, 0.95, 0.9),
        ):
            raise Wrong("a terminated episode has no future: there V(s_t+1) counts as 0.")
        if close(answer, gae(reward, value, next_value, terminated, 0 * truncated > 1, 0.95, 0.9)):
            raise Wrong(
                "the sum must not run on into the next episode: it ends at both kinds of end."
            )
        raise Wrong("mask V(s_t+1) by ~terminated, and the running sum by both kinds of end.")
