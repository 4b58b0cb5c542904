"""Checks of notebook 12: the factors of a layer whose weights are shared, in two ways."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kfcpo_lib.exercises.checking import (
    Wrong,
    close,
    exercise,
    name_the_slip,
    same_shape,
    solved,
)
from kfcpo_lib.sharing_study import expand, reduce

Factors = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
ACTIONS, STATES, PLACES, N_IN, N_OUT = 2, 7, 3, 4, 2


@exercise("Expand: a place is a state")
def check_expanded(expanded: Factors) -> None:
    """`expanded(inputs [B, T, in], scores [S, B, T, out]) -> (A, G)` of KFC."""
    inputs, scores = _random_statistics()
    a, g = expand(inputs, scores)
    other_a, other_g = reduce(inputs, scores)
    answer = _two_matrices(expanded(inputs.clone(), scores.clone()))
    slips = _slips_of_both(a, g) | {
        "A is averaged over the places; each place adds its own a a': sum over them.": a / PLACES,
        "A is summed over the states; it should be their mean.": a * STATES,
        "inputs were averaged over the places before the product: that is `reduce`.": other_a,
        "inputs were summed over the places before the product; add the products.": (
            other_a * PLACES**2
        ),
    }
    _judge(answer[0], a, slips, "A should be sum over places of E[a a'], each a with a 1 appended.")
    slips = {
        "G is summed over the places; it should be their mean.": g * PLACES,
        "G is summed over the states; it should be their mean.": g * STATES,
        "G is averaged over the actions; it is their sum.": g / ACTIONS,
        "scores were summed over the places before the product: that is `reduce`.": other_g,
    }
    _judge(answer[1], g, slips, "G should be 1/T sum over places (and actions) of E[g g'].")


@exercise("Reduce: the places are taken together first")
def check_reduced(reduced: Factors) -> None:
    """`reduced(inputs [B, T, in], scores [S, B, T, out]) -> (A, G)`."""
    inputs, scores = _random_statistics()
    a, g = reduce(inputs, scores)
    other_a, other_g = expand(inputs, scores)
    answer = _two_matrices(reduced(inputs.clone(), scores.clone()))
    slips = _slips_of_both(a, g) | {
        "inputs are summed over the places; average them (the scores are summed).": a * PLACES**2,
        "A is summed over the states; it should be their mean.": a * STATES,
        "the products were added over the places: that is `expand`; average the inputs first.": (
            other_a
        ),
    }
    _judge(answer[0], a, slips, "A should be E[a a'] of the inputs' mean over the places.")
    slips = {
        "scores are averaged over the places; sum them (the inputs are averaged).": g / PLACES**2,
        "G is summed over the states; it should be their mean.": g * STATES,
        "G is averaged over the actions; it is their sum.": g / ACTIONS,
        "the products were averaged over the places: that is `expand`; sum the scores first.": (
            other_g
        ),
    }
    _judge(
        answer[1], g, slips, "G should be the sum over actions of E[g g'], g summed over places."
    )


def _random_statistics() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(STATES, PLACES, N_IN, dtype=torch.float64) + 0.5
    scores = torch.randn(ACTIONS, STATES, PLACES, N_OUT, dtype=torch.float64) + 0.3
    return inputs, scores


def _two_matrices(answer: Any) -> Any:
    if not (isinstance(solved(answer), tuple | list) and len(answer) == 2):
        raise Wrong("return two matrices: A, G.")
    return answer


def _slips_of_both(a: Tensor, g: Tensor) -> dict[str, Tensor]:
    last = torch.arange(-1, len(a) - 1)
    return {
        "the bias is missing: append a 1 to each input before A.": a[:-1, :-1],
        "the 1 stands first; append it at the end, as the library does.": a[last][:, last],
        "A and G are swapped: return A first.": g,
    }


def _judge(answer: Any, right: Tensor, slips: dict[str, Tensor], otherwise: str) -> None:
    if close(answer, right):
        return
    name_the_slip(answer, slips, 1e-5)
    same_shape(answer, right, "the matrix")
    raise Wrong(otherwise)
