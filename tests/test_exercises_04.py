"""Notebook 04's checks: right answers pass, the usual wrong ones are told apart."""

import numpy as np
import pytest
from scipy.optimize import linprog

from kfcpo_lib.exercises.nb04 import check_dual_ascent, check_flow_matrix, check_occupancy_lp


def flow(transition, discount):
    states, actions, _ = transition.shape
    arrives = transition.reshape(states * actions, states).T
    return np.repeat(np.eye(states), actions, axis=1) - discount * arrives


def negative(transition, discount):
    return -flow(transition, discount)


def undiscounted(transition, _):
    return flow(transition, 1.0)


def inflow_added(transition, discount):
    return flow(transition, -discount)


def by_action(transition, discount):
    shape = transition.shape
    arrives = transition.reshape(-1, shape[0]).T
    return np.tile(np.eye(shape[0]), shape[1]) - discount * arrives


def transposed(transition, discount):
    return flow(transition, discount).T


def wrong_reshape(transition, discount):
    states, actions, _ = transition.shape
    leaves = np.repeat(np.eye(states), actions, axis=1)
    return leaves - discount * transition.reshape(states, states * actions)


def program(reward, cost, start, flows, limit, *, sign=-1.0, upper=None, keep=True):
    upper = {"A_ub": cost.reshape(1, -1), "b_ub": [limit]} if upper is None else upper
    result = linprog(sign * reward.ravel(), A_eq=flows, b_eq=start, **upper)
    return result.x.reshape(reward.shape) if keep else result.x


def spends_all(reward, cost, start, flows, limit):
    """The limit as an equation: what the best policy would not spend is wasted."""
    flows, start = np.vstack([flows, cost.ravel()]), np.append(start, limit)
    return program(reward, cost, start, flows, limit, upper={})


def as_policy(*inputs):
    visits = program(*inputs)
    return visits / visits.sum(axis=1, keepdims=True)


def ascent(answer, limit, rate, iterations, *, sign=1.0, floor=0.0, late=False, which=1):
    multiplier, costs, multipliers = 0.0, [], []
    for _ in range(iterations):
        cost = answer(multiplier)[which]
        multipliers.append(multiplier)
        multiplier = max(floor, multiplier + sign * rate * (cost - limit))
        multipliers[-1] = multiplier if late else multipliers[-1]
        costs.append(cost)
    return np.array(costs), np.array(multipliers)


def wound_up(answer, limit, rate, iterations):
    """The floor is only looked through: below it the multiplier falls on, unseen."""
    costs, raw = ascent(lambda m: answer(max(0, m)), limit, rate, iterations, floor=-np.inf)
    return costs, np.maximum(raw, 0)


RIGHT = [
    (check_flow_matrix, flow),
    (check_occupancy_lp, program),
    (check_dual_ascent, ascent),
    (check_dual_ascent, lambda *i: list(ascent(*i))),
]
WRONG = [
    (check_flow_matrix, negative, "other way round"),
    (check_flow_matrix, undiscounted, "not discounted"),
    (check_flow_matrix, inflow_added, "inflow is added"),
    (check_flow_matrix, by_action, "ordered by action first"),
    (check_flow_matrix, transposed, "transpose it"),
    (check_flow_matrix, wrong_reshape, "mixed up"),
    (check_flow_matrix, lambda t, d: np.ones(3), "should have the shape"),
    (check_occupancy_lp, lambda *i: program(*i, sign=1.0), "worst policy"),
    (check_occupancy_lp, lambda *i: program(*i, upper={}), "ignore the limit"),
    (check_occupancy_lp, lambda *i: program(*i, keep=False), "flat"),
    (check_occupancy_lp, as_policy, "probabilities"),
    (check_occupancy_lp, lambda r, *_: 1 + r, "do not flow"),
    (check_occupancy_lp, lambda r, c, s, f, x: program(r, c, s, f, 0.999 * x), "fits inside"),
    (check_occupancy_lp, lambda r, c, s, f, x: program(r, c, s, f, 1.05 * x), "look at A_ub"),
    (
        check_occupancy_lp,
        lambda r, c, s, f, x: program(r, -c, s, f, -x),
        "with a plus sign",
    ),
    (check_occupancy_lp, spends_all, "not in A_eq"),
    (check_dual_ascent, lambda *i: ascent(*i, sign=-1.0), "stays at 0"),
    (check_dual_ascent, lambda *i: ascent(*i, floor=-np.inf), "became negative"),
    (check_dual_ascent, lambda *i: ascent(*i, late=True), "one step late"),
    (check_dual_ascent, lambda a, x, _, n: ascent(a, x, 1.0, n), "learning rate is missing"),
    (check_dual_ascent, lambda *i: ascent(*i, which=0), "compare the return"),
    (check_dual_ascent, wound_up, "comes back late"),
    (check_dual_ascent, lambda *i: ascent(*i)[0], "two arrays"),
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


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_a_stub_is_not_solved_yet(check, capsys):
    assert not check(lambda *_: None)
    assert "not solved yet" in capsys.readouterr().out
