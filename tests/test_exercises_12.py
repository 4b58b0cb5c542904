"""Checks of notebook 12: right answers pass, the usual wrong ones get the sentence they need."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kfcpo_lib.exercises.nb12 import check_expanded, check_reduced
from kfcpo_lib.sharing_study import expand, reduce


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def changed(
    base: Callable[..., tuple[Tensor, Tensor]], a_by: float = 1.0, g_by: float = 1.0
) -> Callable[..., tuple[Tensor, Tensor]]:
    def solve(inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        a, g = base(inputs, scores)
        return a * a_by, g * g_by

    return solve


def mixed(
    first: Callable[..., tuple[Tensor, Tensor]], second: Callable[..., tuple[Tensor, Tensor]]
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A of one, G of the other."""
    return lambda i, s: (first(i, s)[0], second(i, s)[1])


def without_one(base: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda i, s: (base(i, s)[0][:-1, :-1], base(i, s)[1])


def one_first(base: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    order = torch.tensor([4, 0, 1, 2, 3])
    return lambda i, s: (base(i, s)[0][order][:, order], base(i, s)[1])


def test_right_answers_pass_and_stubs_are_not_solved(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_expanded(expand)
    assert check_reduced(reduce)
    for check in (check_expanded, check_reduced):
        assert not check(lambda inputs, scores: None)
    assert capsys.readouterr().out.count("not solved yet") == 2


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (changed(expand, a_by=1 / 3), "A is averaged over the places"),
        (changed(expand, a_by=7), "A is summed over the states"),
        (changed(expand, g_by=3), "G is summed over the places"),
        (changed(expand, g_by=7), "G is summed over the states"),
        (changed(expand, g_by=1 / 2), "averaged over the actions"),
        (mixed(reduce, expand), "that is `reduce`"),
        (mixed(changed(reduce, a_by=9), expand), "add the products"),
        (mixed(expand, reduce), "scores were summed over the places"),
        (without_one(expand), "the bias is missing"),
        (one_first(expand), "the 1 stands first"),
        (lambda i, s: expand(i, s)[::-1], "swapped"),
        (lambda i, s: expand(i, s)[0], "return two matrices"),
        (lambda i, s: (expand(i, s)[0], torch.eye(3)), "shape"),
        (changed(expand, a_by=1.1), "A should be sum over places"),
    ],
)
def test_wrong_expansions(
    wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check_expanded(wrong)
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (changed(reduce, a_by=9), "inputs are summed over the places"),
        (changed(reduce, a_by=7), "A is summed over the states"),
        (mixed(expand, reduce), "average the inputs first"),
        (changed(reduce, g_by=1 / 9), "scores are averaged over the places"),
        (changed(reduce, g_by=7), "G is summed over the states"),
        (changed(reduce, g_by=1 / 2), "averaged over the actions"),
        (mixed(reduce, expand), "sum the scores first"),
        (without_one(reduce), "the bias is missing"),
        (one_first(reduce), "the 1 stands first"),
        (lambda i, s: reduce(i, s)[::-1], "swapped"),
        (changed(reduce, g_by=1.1), "G should be the sum over actions"),
    ],
)
def test_wrong_reductions(
    wrong: Callable, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check_reduced(wrong)
    assert sentence in capsys.readouterr().out
