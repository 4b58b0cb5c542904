"""Margin weights, conflict projection and blend: invariants that hold for every input.

Vectors are float64. Their entries are zero or between 1e-3 and 1e3 in size, so that products
neither underflow nor overflow; "up to rounding" means 1e-11 of the product of the two lengths.
"""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from kfcpo_lib.blending import (
    CONFLICT_MODES,
    Inner,
    blend,
    cosine,
    margin_weights,
    remove_component,
    resolve_conflict,
)

PROJECTING = tuple(mode for mode in CONFLICT_MODES if mode != "none")
ROUNDING = 1e-11
SIZE = 4

costs = st.floats(-1e6, 1e6)
limits = st.floats(1e-3, 1e6)
lambdas = st.floats(0, 1, exclude_min=True)
steepnesses = st.floats(1e-6, 1e6)
weights = st.floats(0, 1)
entries = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))
vectors = st.lists(entries, min_size=SIZE, max_size=SIZE).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.float64)
)


def metric(seed: int | None) -> Inner:
    """Euclidean for None; else u'Mv with a random symmetric positive M."""
    if seed is None:
        return torch.dot
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + 0.1 * torch.eye(SIZE, dtype=torch.float64)
    return lambda u, v: u @ matrix @ v


metrics = st.one_of(st.none(), st.integers(0, 50)).map(metric)


def length(u: Tensor, inner: Inner) -> float:
    return math.sqrt(float(inner(u, u)))


# -------------------------------------------------------------------------------- margin weights


@given(costs, limits, lambdas, steepnesses)
def test_weights_are_shares_that_sum_to_one(c: float, limit: float, lam: float, k: float) -> None:
    reward, cost = margin_weights(c, limit, lam, k)
    assert 0.0 <= reward <= 1.0
    assert 0.0 <= cost <= 1.0
    assert reward + cost == pytest.approx(1.0, abs=1e-15)


@given(costs, costs, limits, lambdas, steepnesses)
def test_more_cost_never_means_less_cost_weight(
    a: float, b: float, limit: float, lam: float, k: float
) -> None:
    """1e-15: the quotient of the sigmoid may round the wrong way by one unit."""
    low, high = margin_weights(min(a, b), limit, lam, k), margin_weights(max(a, b), limit, lam, k)
    assert high[1] >= low[1] - 1e-15
    assert high[0] <= low[0] + 1e-15


def test_weights_move_strictly_near_the_centre() -> None:
    costs_near = [18.0, 19.0, 20.0, 21.0, 22.0]
    cost_weights = [margin_weights(c, 25.0, 0.8, 0.3)[1] for c in costs_near]
    assert all(a < b for a, b in itertools.pairwise(cost_weights))


@given(limits, lambdas, steepnesses)
def test_weights_are_one_half_at_lambda_times_the_limit(limit: float, lam: float, k: float) -> None:
    assert margin_weights(lam * limit, limit, lam, k) == (0.5, 0.5)


@given(st.floats(-300, 300), limits, lambdas)
def test_weights_are_the_sigmoid_of_the_formula(x: float, limit: float, lam: float) -> None:
    """k (c_ep - lambda C) = x; the subtraction loses digits of c_ep where lambda C is large."""
    lost = 1e-15 * (abs(x) + lam * limit)
    reward, cost = margin_weights(lam * limit + x, limit, lam, 1.0)
    assert math.log(cost / reward) == pytest.approx(x, abs=10 * lost + 1e-9)


@pytest.mark.parametrize(
    ("cost", "expected"), [(25.0, 1 / (1 + math.exp(-1.5))), (15.0, 1 / (1 + math.exp(1.5)))]
)
def test_weights_by_hand(cost: float, expected: float) -> None:
    assert margin_weights(cost, 25.0, 0.8, 0.3)[1] == pytest.approx(expected, rel=1e-14)


@given(st.floats(0, 100), st.floats(0.1, 1), st.floats(0.1, 1), st.floats(0.01, 1))
def test_lower_lambda_is_safer(c: float, a: float, b: float, k: float) -> None:
    cautious, bold = (margin_weights(c, 25.0, lam, k)[1] for lam in (min(a, b), max(a, b)))
    assert cautious >= bold - 1e-15


@given(costs, limits, lambdas, steepnesses, st.sampled_from([2.0**-7, 2.0**5]))
def test_k_has_the_unit_one_over_cost(
    c: float, limit: float, lam: float, k: float, unit: float
) -> None:
    """Counting cost in another unit (a power of two: no rounding) changes no weight."""
    rescaled = margin_weights(unit * c, unit * limit, lam, k / unit)
    assert rescaled == margin_weights(c, limit, lam, k)


@pytest.mark.parametrize("k", [1e6, 1e300])
def test_no_overflow_at_any_steepness(k: float) -> None:
    assert margin_weights(1e6, 25.0, 0.8, k) == (0.0, 1.0)
    assert margin_weights(-1e6, 25.0, 0.8, k) == (1.0, 0.0)
    assert margin_weights(20.0, 25.0, 0.8, k) == (0.5, 0.5)
    assert margin_weights(1e300, 1e300, 1.0, k) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("episodic_cost", math.nan, "finite"),
        ("episodic_cost", math.inf, "finite"),
        ("cost_limit", 0.0, "positive"),
        ("cost_limit", -25.0, "positive"),
        ("cost_limit", math.inf, "finite"),
        ("cost_limit", math.nan, "positive"),
        ("margin_lambda", 0.0, "(0, 1]"),
        ("margin_lambda", 1.1, "(0, 1]"),
        ("margin_lambda", math.nan, "(0, 1]"),
        ("steepness_k", 0.0, "positive"),
        ("steepness_k", -1.0, "positive"),
        ("steepness_k", math.inf, "finite"),
    ],
)
def test_refusals_name_the_value_and_what_is_allowed(name: str, value: float, allowed: str) -> None:
    good = {"episodic_cost": 20.0, "cost_limit": 25.0, "margin_lambda": 0.8, "steepness_k": 0.3}
    with pytest.raises(ValueError, match=name) as refusal:
        margin_weights(**(good | {name: value}))
    assert repr(value) in str(refusal.value)
    assert allowed in str(refusal.value)


# ------------------------------------------------------------------------------------- conflicts


@pytest.mark.parametrize("mode", PROJECTING)
@given(vectors, vectors, weights, metrics)
def test_after_a_projecting_mode_nobody_disagrees(
    mode: str, u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    reward, cost = resolve_conflict(u, v, cost_weight, mode, inner)
    assert float(inner(reward, cost)) >= -ROUNDING * length(u, inner) * length(v, inner)


@pytest.mark.parametrize("mode", CONFLICT_MODES)
@given(vectors, vectors, weights, metrics)
def test_without_a_conflict_nothing_changes(
    mode: str, u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    if inner(u, v) < 0:
        v = -v
    reward, cost = resolve_conflict(u, v, cost_weight, mode, inner)
    assert torch.equal(reward, u)
    assert torch.equal(cost, v)
    expected = (1 - cost_weight) * u + cost_weight * v
    assert torch.equal(blend(u, v, cost_weight, mode, inner), expected)


@given(vectors, vectors, weights, metrics)
def test_mode_none_changes_nothing_in_a_conflict_either(
    u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    reward, cost = resolve_conflict(u, v, cost_weight, "none", inner)
    assert torch.equal(reward, u)
    assert torch.equal(cost, v)


@given(vectors, vectors, weights, metrics)
def test_each_mode_moves_the_direction_it_says(
    u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    assume(float(inner(u, v)) < 0)
    without_v, without_u = remove_component(u, v, inner), remove_component(v, u, inner)
    minor = (u, without_u) if cost_weight <= 0.5 else (without_v, v)
    expected = {
        "project_cost": (u, without_u),
        "project_reward": (without_v, v),
        "project_minor": minor,
        "project_both": (without_v, without_u),
    }
    for mode, (reward, cost) in expected.items():
        got = resolve_conflict(u, v, cost_weight, mode, inner)
        assert torch.equal(got[0], reward)
        assert torch.equal(got[1], cost)


def test_projections_by_hand() -> None:
    """Reward along x, cost at 135 degrees: the projected ones are at right angles."""
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    cost = y - x
    assert [t.tolist() for t in resolve_conflict(x, cost, 0.5)] == [[1, 0], [0, 1]]
    by_reward = resolve_conflict(x, cost, 0.5, "project_reward")
    assert [t.tolist() for t in by_reward] == [[0.5, 0.5], [-1, 1]]
    both = resolve_conflict(x, cost, 0.5, "project_both")
    assert [t.tolist() for t in both] == [[0.5, 0.5], [0, 1]]
    assert blend(x, cost, 0.25).tolist() == [0.75, 0.25]


def test_which_metric_decides_what_is_a_conflict() -> None:
    """Disagreeing in one metric, agreeing in another: only the metric that is asked counts."""
    u, v = torch.tensor([1.0, 1.0]), torch.tensor([1.0, -2.0])

    def stretched(a: Tensor, b: Tensor) -> Tensor:
        return 10 * a[0] * b[0] + a[1] * b[1]

    assert not torch.equal(blend(u, v, 0.5), 0.5 * (u + v))
    assert torch.equal(blend(u, v, 0.5, inner=stretched), 0.5 * (u + v))


@given(vectors, vectors, metrics)
def test_removing_a_component_leaves_a_right_angle_and_is_done_once(
    u: Tensor, v: Tensor, inner: Inner
) -> None:
    assume(bool(v.any()))
    rest = remove_component(u, v, inner)
    rounding = ROUNDING * length(u, inner) * length(v, inner)
    assert abs(float(inner(rest, v))) <= rounding
    again = remove_component(rest, v, inner)
    assert length(again - rest, inner) <= ROUNDING * length(u, inner)
    # what was taken out lies along v
    taken = u - rest
    sine = float(inner(taken, taken)) * float(inner(v, v)) - float(inner(taken, v)) ** 2
    assert sine <= 1e-9 * float(inner(u, u)) * float(inner(v, v))


@pytest.mark.parametrize("mode", CONFLICT_MODES)
@given(vectors, weights, metrics)
def test_zero_vectors_stay_zero(mode: str, u: Tensor, cost_weight: float, inner: Inner) -> None:
    zero = torch.zeros_like(u)
    assert torch.equal(blend(u, zero, cost_weight, mode, inner), (1 - cost_weight) * u)
    assert torch.equal(blend(zero, u, cost_weight, mode, inner), cost_weight * u)
    assert torch.equal(blend(zero, zero, cost_weight, mode, inner), zero)


@pytest.mark.parametrize("mode", CONFLICT_MODES)
@given(vectors, vectors, weights, metrics)
def test_inputs_are_not_changed(
    mode: str, u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    copies = u.clone(), v.clone()
    blend(u, v, cost_weight, mode, inner)
    assert torch.equal(u, copies[0])
    assert torch.equal(v, copies[1])


@given(vectors, vectors, weights, metrics)
def test_the_papers_mode_never_lowers_the_reward_to_first_order(
    u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    gain = float(inner(blend(u, v, cost_weight, "project_cost", inner), u))
    assert gain >= -ROUNDING * length(u, inner) * (length(u, inner) + length(v, inner))


@given(vectors, vectors, weights, metrics)
def test_projecting_both_harms_neither_to_first_order(
    u: Tensor, v: Tensor, cost_weight: float, inner: Inner
) -> None:
    step = blend(u, v, cost_weight, "project_both", inner)
    room = ROUNDING * (length(u, inner) + length(v, inner))
    assert float(inner(step, u)) >= -room * length(u, inner)
    assert float(inner(step, v)) >= -room * length(v, inner)


@pytest.mark.parametrize("mode", CONFLICT_MODES)
def test_the_extreme_weights_follow_one_direction_alone(mode: str) -> None:
    u, v = torch.tensor([1.0, 0.2]), torch.tensor([0.5, 1.0])  # they agree
    assert torch.equal(blend(u, v, 0.0, mode), u)
    assert torch.equal(blend(u, v, 1.0, mode), v)


def test_unknown_modes_and_weights_are_refused_by_value() -> None:
    u = torch.ones(2)
    with pytest.raises(ValueError, match=r"project_cost.*'project'"):
        blend(u, u, 0.5, "project")
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\]") as refusal:
            blend(u, u, weight)
        assert repr(weight) in str(refusal.value)


@given(vectors, vectors, metrics)
def test_cosine_is_that_of_the_metric(u: Tensor, v: Tensor, inner: Inner) -> None:
    if not (u.any() and v.any()):
        assert math.isnan(cosine(u, v, inner))
        return
    expected = float(inner(u, v)) / length(u, inner) / length(v, inner)
    assert cosine(u, v, inner) == pytest.approx(expected, abs=1e-12)
    assert abs(cosine(u, v, inner)) <= 1 + 1e-12
    assert cosine(u, -2 * u, inner) == pytest.approx(-1.0, abs=1e-12)
