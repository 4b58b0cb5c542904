"""Checks of notebook 05: weights, projection, blend."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kfcpo_lib.blending import blend, margin_weights, remove_component
from kfcpo_lib.exercises.checking import Wrong, close, exercise, same_shape, solved

Weights = Callable[[float, float, float, float], tuple[float, float]]
Project = Callable[[Tensor, Tensor, Tensor], Tensor]
Blend = Callable[[Tensor, Tensor, float, Tensor], Tensor]


@exercise("margin weights")
def check_weights(student: Weights) -> None:
    """student(episodic_cost, cost_limit, margin_lambda, steepness_k) -> (w_r, w_c)."""
    draws = torch.rand(20, 4, dtype=torch.float64).tolist()
    for a, b, c, d in draws:
        limit, margin = 10.0 + 20.0 * b, 0.3 + 0.6 * c
        case = margin * limit + 12.0 * (a - 0.5), limit, margin, 0.05 + 0.45 * d
        answer = solved(student(*case))
        if not (isinstance(answer, tuple | list) and len(answer) == 2):
            raise Wrong("return two numbers, the reward weight first: (w_r, w_c).")
        values, expected = [float(value) for value in answer], margin_weights(*case)
        if not close(values, expected):
            raise Wrong(_weights_mistake(values, expected, case))
    _judge_extreme(student, 1000.0, 10.0, (0.0, 1.0), "far above the centre")
    _judge_extreme(student, 0.0, 1000.0, (1.0, 0.0), "far below the centre")


def _judge_extreme(
    student: Weights, cost: float, k: float, expected: tuple[float, float], where: str
) -> None:
    """Either side overflows in one way of writing a sigmoid; notebook 07 uses k = 1000."""
    try:
        values = [float(value) for value in solved(student(cost, 20.0, 0.8, k))]
    except OverflowError:
        raise Wrong(
            f"{where} an exponential overflows: torch.sigmoid of a double tensor does not."
        ) from None
    if not close(values, expected):
        weights = ", ".join(f"{weight:.0f}" for weight in expected)
        raise Wrong(f"{where} the weights should be ({weights}), yours are not.")


def _weights_mistake(
    values: list[float], expected: tuple[float, float], case: tuple[float, ...]
) -> str:
    cost, limit, margin, k = case
    if close(values, expected[::-1]):
        return "the two are swapped (or k has the wrong sign): costs above the centre raise w_c."
    if not close(sum(values), 1.0):
        return "the two weights should add up to 1."
    usual = {
        k * (cost - limit): "the sigmoid is centred at C; its centre should be lambda * C.",
        k * (cost / limit - margin): "k multiplies the cost itself, not the ratio c_ep / C.",
        (cost - margin * limit) / k: "you divide by k; it multiplies the distance to the centre.",
        cost - margin * limit: "the steepness k is missing.",
    }
    for exponent, sentence in usual.items():
        if close(values[1], 1.0 / (1.0 + math.exp(-max(min(exponent, 700.0), -700.0)))):
            return sentence
    return "at c_ep = lambda * C both should be 1/2, and w_c = 1 / (1 + exp(-k (c_ep - lambda C)))."


@exercise("conflict projection")
def check_projection(student: Project) -> None:
    """student(direction [P], obstacle [P], fisher [P, P]) -> [P], in the Fisher metric."""
    for size in (2, 3, 7):
        for conflict in (True, False):
            direction, obstacle, fisher = two_directions(size, conflict, misleading=size == 3)
            before = direction.clone(), obstacle.clone(), fisher.clone()
            answer = solved(student(direction, obstacle, fisher))
            same_shape(answer, direction, "the projected direction")
            if not all(map(torch.equal, before, (direction, obstacle, fisher))):
                raise Wrong("your function changes its arguments: work on a copy.")
            expected = remove_component(*before[:2], _inner(fisher)) if conflict else direction
            if not close(answer, expected):
                raise Wrong(_projection_mistake(answer, *before, conflict))


def _projection_mistake(
    answer: Tensor, direction: Tensor, obstacle: Tensor, fisher: Tensor, conflict: bool
) -> str:
    if not conflict:
        return "where the two agree, <direction, obstacle>_F >= 0, nothing should change."
    inner = _inner(fisher)
    part = inner(direction, obstacle) / inner(obstacle, obstacle) * obstacle
    raw = inner(direction, obstacle) * obstacle
    usual = {
        "nothing was taken away, though the two disagree in the Fisher metric.": direction,
        "you measured with the dot product; here the inner product is u' F v.": remove_component(
            direction, obstacle
        ),
        "you projected the wrong vector: the obstacle stays, the direction gives way.": (
            remove_component(obstacle, direction, inner)
        ),
        "wrong sign: subtract the component along the obstacle.": direction + part,
        "you kept the component along the obstacle instead of taking it away.": part,
        "divide by <obstacle, obstacle>_F: the obstacle need not have length 1.": direction - raw,
        "divide by <obstacle, obstacle>_F once, not by its root.": (
            direction - raw / inner(obstacle, obstacle).sqrt()
        ),
    }
    for sentence, mistake in usual.items():
        if close(answer, mistake):
            return sentence
    return "after the projection <result, obstacle>_F should be 0."


@exercise("blend")
def check_blend(student: Blend) -> None:
    """student(reward [P], cost [P], cost_weight, fisher [P, P]) -> [P], cost projected."""
    for conflict in (True, False):
        for cost_weight in (0.2, 0.7, 0.0, 1.0):
            cost, reward, fisher = two_directions(5, conflict, misleading=cost_weight == 0.7)
            before = reward.clone(), cost.clone(), fisher.clone()
            answer = solved(student(reward, cost, cost_weight, fisher))
            same_shape(answer, reward, "the blend")
            if not all(map(torch.equal, before, (reward, cost, fisher))):
                raise Wrong("your function changes its arguments: work on a copy.")
            if not close(answer, blend(reward, cost, cost_weight, "project_cost", _inner(fisher))):
                raise Wrong(_blend_mistake(answer, reward, cost, cost_weight, fisher))


def _blend_mistake(
    answer: Tensor, reward: Tensor, cost: Tensor, cost_weight: float, fisher: Tensor
) -> str:
    inner = _inner(fisher)
    usual = {
        "the conflict is measured in the Fisher metric, u' F v.": blend(reward, cost, cost_weight),
        "w_c and w_r are swapped: w_c belongs to the cost direction.": blend(
            reward, cost, 1.0 - cost_weight, "project_cost", inner
        ),
        "resolve the conflict first: take the component against the reward out.": blend(
            reward, cost, cost_weight, "none", inner
        ),
        "you projected the reward direction; in KFCPO the cost direction gives way.": blend(
            reward, cost, cost_weight, "project_reward", inner
        ),
        "you projected both, as PCRPO does; in KFCPO only the cost direction gives way.": blend(
            reward, cost, cost_weight, "project_both", inner
        ),
        "subtracting the cost direction raises the cost: it already points to safety.": blend(
            reward, -cost, cost_weight, "none", inner
        ),
    }
    for sentence, mistake in usual.items():
        if close(answer, mistake):
            return sentence
    return "it should be w_r * reward + w_c * cost, with w_r = 1 - w_c and the cost projected."


def two_directions(
    size: int, conflict: bool, *, misleading: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Two random directions [P] and a Fisher matrix [P, P] in whose metric they conflict or not.

    The sign of their dot product says the same, or the contrary if it is to be misleading.
    """
    while True:
        square = torch.randn(size, size, dtype=torch.float64)
        fisher = square @ square.T + 0.1 * torch.eye(size, dtype=torch.float64)
        direction, obstacle = 2.0 * torch.randn(2, size, dtype=torch.float64)
        disagree = bool(direction @ fisher @ obstacle < 0)
        if (disagree != bool(direction @ obstacle < 0)) == misleading:
            return direction, obstacle if disagree == conflict else -obstacle, fisher


def _inner(fisher: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda u, v: u @ fisher @ v
