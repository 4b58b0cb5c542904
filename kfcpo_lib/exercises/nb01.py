"""Checks of notebook 01: generalised advantage estimation and the surrogate."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kfcpo_lib import rollouts
from kfcpo_lib.exercises.checking import (
    Wrong,
    close,
    exercise,
    name_the_slip,
    same_shape,
    solved,
)

Array = NDArray[Any]
ROUNDS = 3


@exercise("score-function gradient")
def check_score_gradient(
    score_gradient: Callable[[Array, Array, float, float, float], float],
) -> None:
    """`score_gradient(actions [N], rewards [N], mean, std, baseline) -> number`, and its slips."""
    random = np.random.default_rng()
    for _ in range(ROUNDS):
        mean, std, baseline = random.normal(), random.uniform(0.4, 0.8), random.uniform(0.5, 1)
        actions, rewards = mean + std * random.normal(size=12), random.uniform(1, 2, size=12)
        answer = solved(score_gradient(actions.copy(), rewards.copy(), mean, std, baseline))
        _judge_score_gradient(answer, (actions - mean) / std**2, rewards, baseline, std)


def _judge_score_gradient(
    answer: Any, score: Array, rewards: Array, baseline: float, std: float
) -> None:
    pulls = (rewards - baseline) * score
    if np.shape(answer) == pulls.shape:
        raise Wrong("that is one pull per try; return their mean, one number.")
    if close(answer, pulls.mean()):
        return
    slips = {
        "the baseline is missing: weigh each score with reward - baseline.": rewards * score,
        "your sign is turned: an action above the mean that paid well pulls the mean up.": -pulls,
        "divide by the variance std**2, not by std.": pulls * std,
        "the variance is missing: the score of the mean is (action - mean) / std**2.": (
            pulls * std**2
        ),
    }
    name_the_slip(answer, {text: wrong.mean() for text, wrong in slips.items()})
    if close(answer, pulls.sum()):
        raise Wrong("that is the sum of the pulls; the gradient is their mean.")
    raise Wrong("the mean of (reward - baseline) * (action - mean) / std**2 is asked for.")


Gae = Callable[[Array, Array, Array, Array, Array, float, float], Array]


@exercise("GAE")
def check_gae(gae: Gae) -> None:
    """`gae(reward, value, next_value, terminated, truncated, discount, gae_lambda) -> [T, N]`."""
    random = np.random.default_rng()
    for _ in range(ROUNDS):
        reward, value, next_value = random.normal(size=(3, 12, 5)) + 1.0
        ends = random.permutation(60).reshape(12, 5)
        terminated, truncated = ends < 6, (ends >= 6) & (ends < 12)
        inputs = (reward, value, next_value, terminated, truncated, 0.9, 0.8)
        answer = solved(gae(*copy.deepcopy(inputs)))
        same_shape(answer, reward, "the advantages")
        if not close(answer, rollouts.gae(*inputs)):
            _explain_gae(answer, *inputs)


def _explain_gae(
    answer: Any, reward: Array, value: Array, next_value: Array, terminated: Array,
    truncated: Array, discount: float, gae_lambda: float,
) -> None:  # fmt: skip
    over, factor = terminated | truncated, discount * gae_lambda
    hopeful = reward + discount * next_value - value
    surprise = hopeful - discount * next_value * terminated
    name_the_slip(
        answer,
        {
            "a truncated episode still has a future: only `terminated` may remove next_value.": (
                _sweep(hopeful - discount * next_value * over, over, factor)
            ),
            "a terminated episode has no future: its next_value must count as 0.": (
                _sweep(hopeful, over, factor)
            ),
            "these are the targets, advantage + value; leave out the value.": (
                _sweep(surprise, over, factor) + value
            ),
        },
    )
    name_the_slip(answer, _wrong_sums(surprise, terminated, over, discount, gae_lambda))
    raise Wrong("the advantages differ; compare your surprises and your sum with the two formulas.")


def _wrong_sums(
    surprise: Array, terminated: Array, over: Array, discount: float, gae_lambda: float
) -> dict[str, Array]:
    """The right surprises, added up in wrong ways."""
    factor, never = discount * gae_lambda, np.zeros_like(over)
    share = "each later surprise counts discount * gae_lambda times as much."
    return {
        "the next episode leaks into the last one: stop the sum where an episode ended, "
        "terminated or truncated.": _sweep(surprise, never, factor),
        "the sum goes on after a truncation: another episode begins there.": (
            _sweep(surprise, terminated, factor)
        ),
        f"gae_lambda is missing in the sum: {share}": _sweep(surprise, over, discount),
        f"the discount is missing in the sum: {share}": _sweep(surprise, over, gae_lambda),
        "these are only the surprises of single steps; add up the later ones too.": surprise,
        "you swept forwards; an advantage needs the later surprises, so start at the end.": (
            _sweep(surprise[::-1], over[::-1], factor)[::-1]
        ),
    }


def _sweep(surprise: Array, over: Array, factor: float) -> Array:
    advantage, running = np.empty_like(surprise), np.zeros(surprise.shape[1])
    for t in reversed(range(len(surprise))):
        running = surprise[t] + factor * ~over[t] * running
        advantage[t] = running
    return advantage


@exercise("surrogate")
def check_surrogate(surrogate: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """`surrogate(log_prob, old_log_prob, advantage) -> scalar`, its value and its gradient."""
    for _ in range(ROUNDS):
        log_prob = torch.randn(20, dtype=torch.float64).mul(0.5).requires_grad_()
        old = torch.randn(20, dtype=torch.float64) * 0.5
        advantage = torch.randn(20, dtype=torch.float64) + 0.5
        answer = solved(surrogate(log_prob, old.clone(), advantage.clone()))
        ratio = (log_prob - old).exp()
        if not close(answer, (ratio * advantage).mean()):
            _explain_surrogate(answer, log_prob.detach(), old, advantage)
        if not isinstance(answer, Tensor) or not answer.requires_grad:
            raise Wrong("the value is right, but no gradient flows: do not detach log_prob.")
        if answer.grad_fn is None or not _slope_is_right(answer, log_prob, ratio * advantage):
            raise Wrong(
                "the value is right, but not its gradient in log_prob: compute with the tensor "
                "itself, without detach, float or a new tensor."
            )


def _slope_is_right(answer: Tensor, log_prob: Tensor, gains: Tensor) -> bool:
    """Whether the gradient of the answer is that of the mean of gains; also if none is to be seen.

    A grader hears of another process's answer that it is on a graph, but has not the graph.
    """
    slope = torch.autograd.grad(answer, log_prob, allow_unused=True)[0]
    return slope is None or close(slope, gains / len(gains))


def _explain_surrogate(answer: Any, log_prob: Tensor, old: Tensor, advantage: Tensor) -> None:
    ratio = (log_prob - old).exp()
    gain = ratio * advantage
    slips = {
        "your ratio is upside down: the new probability over the old one.": advantage / ratio,
        "the exponential is missing: exp(log_prob - old_log_prob) is the ratio.": (
            (log_prob - old) * advantage
        ),
        "that is the quotient of the logarithms; the ratio is exp(log_prob - old_log_prob).": (
            log_prob / old * advantage
        ),
        "the old policy is missing: divide by its probability.": log_prob.exp() * advantage,
        "that is the log-probability times the advantage: right as a gradient at the old "
        "policy, but not the surrogate.": log_prob * advantage,
        "your sign is turned: the surrogate goes up when the policy gets better.": -gain,
    }
    if np.shape(_plain(answer)) == (20,):
        raise Wrong("that is one number per sample; return their mean.")
    name_the_slip(_plain(answer), {text: terms.mean() for text, terms in slips.items()})
    if close(answer, gain.sum()):
        raise Wrong("that is the sum over the samples; the surrogate is their mean.")
    raise Wrong("the mean of ratio * advantage is asked for.")


def _plain(answer: Any) -> Any:
    return answer.detach() if isinstance(answer, Tensor) else answer
