"""One trial step: kept as it is, or undone to the bit; and the size that adapts."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kfcpo_lib.trust_region import (
    DELTA_FLOOR,
    adapt_delta,
    flat_gradient,
    flatten,
    move,
    restore,
    snapshot,
    trial_step,
)

ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)


def parameters_of(numbers: list[float]) -> list[nn.Parameter]:
    """Two parameters, [2, 2] and [2], in single precision as training has them."""
    tensor = torch.tensor(numbers, dtype=torch.float32)
    return [nn.Parameter(tensor[:4].reshape(2, 2).clone()), nn.Parameter(tensor[4:].clone())]


def bits(parameters: list[nn.Parameter]) -> list[list[int]]:
    """Every bit: unlike ==, this tells 0 from -0 and one NaN from another."""
    return [p.detach().reshape(-1).view(torch.int32).tolist() for p in parameters]


class NotToday(Exception):
    pass


AWKWARD = [-0.0, 0.0, 1e-45, 0.1, -3.0e38, 1.0]


@given(st.lists(ANY_FLOAT, min_size=6, max_size=6), st.lists(ANY_FLOAT, min_size=6, max_size=6))
def test_an_undone_step_leaves_every_bit_as_it_was(start: list[float], step: list[float]) -> None:
    parameters = parameters_of(start)
    before = bits(parameters)
    assert not trial_step(parameters, torch.tensor(step), lambda: False)
    assert bits(parameters) == before


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
def test_a_step_that_is_not_finite_is_undone_without_a_trace(poison: float) -> None:
    parameters = parameters_of(AWKWARD)
    before = bits(parameters)
    seen = []

    def accept() -> bool:
        seen.append(bool(torch.isfinite(flatten(parameters)).all()))
        return seen[-1]

    step = torch.full((6,), -poison)
    assert not trial_step(parameters, step, accept)
    assert seen == [False]
    assert bits(parameters) == before


def test_rounding_cannot_be_undone_by_subtraction_and_is_not() -> None:
    """0.1 + 1e8 - 1e8 is 0 in single precision: a rollback has to remember."""
    parameters = parameters_of([0.1] * 6)
    before = bits(parameters)
    trial_step(parameters, torch.full((6,), 1e8), lambda: False)
    assert bits(parameters) == before


@pytest.mark.parametrize("error", [NotToday, KeyboardInterrupt])
def test_a_step_is_undone_when_its_test_raises(error: type[BaseException]) -> None:
    parameters = parameters_of(AWKWARD)
    before = bits(parameters)

    def accept() -> bool:
        raise error

    with pytest.raises(error):
        trial_step(parameters, torch.ones(6), accept)
    assert bits(parameters) == before


def test_a_step_that_breaks_off_halfway_is_undone() -> None:
    class Stubborn(nn.Parameter):
        def add_(self, *_: object, **__: object) -> Tensor:  # type: ignore[override]
            raise KeyboardInterrupt

    first, second = parameters_of(AWKWARD)
    parameters = [first, Stubborn(second.detach())]
    before = bits(parameters)
    with pytest.raises(KeyboardInterrupt):
        trial_step(parameters, torch.ones(6), lambda: True)
    assert bits(parameters) == before


@pytest.mark.parametrize("size", [5, 7])
def test_a_step_of_the_wrong_length_is_refused(size: int) -> None:
    parameters = parameters_of(AWKWARD)
    before = bits(parameters)
    with pytest.raises(RuntimeError):
        trial_step(parameters, torch.ones(size), lambda: True)
    assert bits(parameters) == before


def test_a_kept_step_is_the_one_that_was_tested() -> None:
    parameters = parameters_of([1.0, 2, 3, 4, 5, 6])
    step = torch.tensor([0.5, -1, 2, 0, 10, -20])
    seen = []

    def accept() -> bool:
        seen.append(flatten(parameters).detach().clone())
        return True

    assert trial_step(parameters, step, accept)
    assert seen[0].tolist() == [1.5, 1, 5, 4, 15, -14]
    assert flatten(parameters).tolist() == [1.5, 1, 5, 4, 15, -14]
    assert all(p.requires_grad for p in parameters)


def test_restore_gives_back_a_snapshot_that_does_not_move() -> None:
    parameters = parameters_of(AWKWARD)
    before, saved = bits(parameters), snapshot(parameters)
    move(parameters, torch.ones(6))
    move(parameters, torch.full((6,), math.nan))
    assert bits(parameters) != before
    restore(parameters, saved)
    assert bits(parameters) == before


def test_flat_gradients_are_in_the_order_of_the_parameters_and_unused_ones_are_zero() -> None:
    a, b, unused = (nn.Parameter(torch.ones(shape)) for shape in [(2, 2), (3,), (2,)])
    weights = torch.tensor([[1.0, 2], [3, 4]])
    objective = (weights * a).sum() + (torch.tensor([5.0, 6, 7]) * b).sum()
    assert flat_gradient(objective, [a, unused, b]).tolist() == [1, 2, 3, 4, 0, 0, 5, 6, 7]
    assert flat_gradient(objective, [b]).tolist() == [5, 6, 7]  # and may be asked again


# --------------------------------------------------------------------------------- adaptive delta


@given(
    st.floats(1e-12, 10),
    st.floats(1e-8, 1),
    st.lists(st.booleans(), min_size=1, max_size=50),
)
def test_delta_stays_between_its_floor_and_the_kl_limit(
    delta: float, kl_limit: float, history: list[bool]
) -> None:
    """A limit below the floor wins: no step may be larger than what is allowed."""
    for committed in history:
        delta = adapt_delta(delta, committed, kl_limit)
        assert min(DELTA_FLOOR, kl_limit) <= delta <= kl_limit


def test_delta_by_hand() -> None:
    assert DELTA_FLOOR == 1e-6
    assert adapt_delta(1e-4, True, 0.01) == pytest.approx(1.05e-4)
    assert adapt_delta(1e-4, False, 0.01) == pytest.approx(0.7e-4)
    assert adapt_delta(0.0099, True, 0.01) == 0.01
    assert adapt_delta(1.2e-6, False, 0.01) == DELTA_FLOOR
    assert adapt_delta(1.0, True, 0.5, grow=1.5) == 0.5
    assert adapt_delta(1.0, False, 5.0, shrink=0.25) == 0.25


def test_delta_finds_what_the_limit_allows() -> None:
    """Steps above 1e-3 are refused: delta settles there, and few steps are wasted."""
    delta, kept = 1e-6, []
    for _ in itertools.repeat(None, 500):
        kept.append(delta <= 1e-3)
        delta = adapt_delta(delta, kept[-1], kl_limit=0.01)
    assert 0.7e-3 * 0.99 < delta < 1.05e-3 * 1.01
    # One refusal costs a factor of 0.7, which takes log(0.7) / log(1.05) = 7.3 steps to win back.
    assert sum(kept[-100:]) / 100 == pytest.approx(8 / 9, abs=0.03)
