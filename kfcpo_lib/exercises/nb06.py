"""Checks of notebook 06: the KL of Gaussian policies, and the rollback."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kfcpo_lib.exercises.checking import Wrong, close, exercise, same_shape, solved
from kfcpo_lib.gaussians import Gaussian

Kl = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Rollback = Callable[[list[Tensor], list[Tensor], Callable[[], float], float], bool]


@exercise("KL of Gaussian policies")
def check_kl(student: Kl) -> None:
    """student(mean_old [B, d], log_std_old [d], mean_new, log_std_new) -> [B] nats."""
    for states, dims in ((5, 2), (3, 4)):
        means = torch.randn(2, states, dims, dtype=torch.float64)
        log_stds = 0.2 + 0.5 * torch.rand(2, dims, dtype=torch.float64)
        old, new = Gaussian(means[0], log_stds[0]), Gaussian(means[1], log_stds[1])
        answer = solved(student(old.mean, old.log_std, new.mean, new.log_std))
        if not close(answer, old.kl(new)):
            raise Wrong(_kl_mistake(answer, old, new))
    same = solved(student(old.mean, old.log_std, old.mean, old.log_std))
    if not close(same, torch.zeros(states)):
        raise Wrong("the KL of a policy to itself should be 0.")


def _kl_mistake(answer: Tensor, old: Gaussian, new: Gaussian) -> str:
    right = old.kl(new)
    usual = {
        "the wrong way round: expected is KL(old || new), averaged over the old policy.": new.kl(
            old
        ),
        "sum over the action dimensions; you took their mean.": right / old.mean.shape[1],
        "one KL a state is expected; you averaged over the states too.": right.mean(),
        "one KL a state is expected; you summed over the states too.": right.sum(),
        "the arguments are *log* standard deviations: take their exponential.": _kl_of_std(
            old, new
        ),
        "the factor 1/2 is missing somewhere.": 2.0 * right - (new.log_std - old.log_std).sum(),
        "the sign of the log ratio is wrong: it is log(new std / old std).": right
        - 2.0 * (new.log_std - old.log_std).sum(),
        "the -1/2 of each dimension is missing.": right + 0.5 * old.mean.shape[1],
    }
    for sentence, mistake in usual.items():
        if close(answer, mistake):
            return sentence
    same_shape(answer, right, "the KL")
    return (
        "a dimension gives log(s_new / s_old) + (s_old^2 + (m_old - m_new)^2) / (2 s_new^2) - 1/2."
    )


def _kl_of_std(old: Gaussian, new: Gaussian) -> Tensor:
    """The KL of someone who takes the log standard deviations for standard deviations."""
    distance = (old.log_std**2 + (old.mean - new.mean) ** 2) / (2.0 * new.log_std**2)
    return ((new.log_std / old.log_std).log() + distance - 0.5).sum(-1)


@exercise("rollback")
def check_rollback(student: Rollback) -> None:
    """student(parameters, steps, kl, kl_limit) -> committed; parameters changed in place."""
    limit = 0.005 + 0.01 * torch.rand(()).item()
    for kl, name in (
        (0.4 * limit, "kept"),
        (limit, "kept"),
        (3.0 * limit, "undone"),
        (math.nan, "nan"),
        (math.inf, "infinite"),
    ):
        parameters = [torch.randn(3, 2) * 10.0**e for e in (-3, 0, 3)]
        steps = [torch.randn(3, 2) for _ in parameters]
        before = [parameter.clone() for parameter in parameters]
        moved = [parameter + step for parameter, step in zip(before, steps, strict=True)]
        seen: list[bool] = []
        verdict = student([*parameters], steps, _meter(parameters, moved, seen, kl), limit)
        for sentence in _mistakes(solved(verdict), parameters, before, moved, seen, name):
            raise Wrong(sentence)


def _meter(
    parameters: list[Tensor], moved: list[Tensor], seen: list[bool], kl: float
) -> Callable[[], float]:
    """A KL that remembers whether it was asked at the moved parameters."""

    def measure() -> float:
        seen.append(all(map(torch.equal, parameters, moved)))
        return kl

    return measure


def _mistakes(
    verdict: object,
    parameters: list[Tensor],
    before: list[Tensor],
    moved: list[Tensor],
    seen: list[bool],
    name: str,
) -> Iterator[str]:
    at_start = all(map(torch.equal, parameters, before))
    at_moved = all(map(torch.equal, parameters, moved))
    near_start = all(map(close, parameters, before))
    if not seen:
        yield "call kl() after the move: it measures the parameters as they are."
    elif at_start and not seen[-1]:
        yield "kl() was asked before the parameters had moved, or they were not moved in place."
    elif name == "kept" and not at_moved:
        yield "the KL was within the limit, or just at it, yet the step was not kept."
    elif name == "nan" and not at_start:
        yield "a KL of NaN was let through: `kl > limit` is False for NaN; keep only what passes."
    elif name != "kept" and at_moved:
        yield "the step was not undone: did your snapshot copy the numbers (clone), or only names?"
    elif name != "kept" and near_start and not at_start:
        yield "nearly restored: taking the step away again rounds; copy the old numbers back."
    elif name != "kept" and not at_start:
        yield "after a rollback every parameter should have its old value."
    elif bool(verdict) != (name == "kept"):
        yield "return True if the step was kept, False if it was undone."
