"""Checks of notebook 04: the flow of visits, the occupancy program, dual ascent."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.cmdp import CMDP, best_response, solve
from kfcpo_lib.exercises.checking import (
    Wrong,
    close,
    exercise,
    name_the_slip,
    same_shape,
    solved,
)

Array = NDArray[np.float64]
Answer = Callable[[float], tuple[float, float]]
ROUNDS = 3


def _dilemma(random: np.random.Generator) -> CMDP:
    """A random problem: action 0 is cheap, 1 brings more and costs more, 2 costs most for little.

    So a limit can bite; and a high one can be spent, though the best policy would not.
    """
    states, actions = 4, 3
    transition = random.dirichlet(np.ones(states), size=(states, actions))
    reward, noise = random.uniform(0, 1, (2, states, actions))
    reward[:, 0], reward[:, 1] = random.uniform(0, 0.3, states), random.uniform(0.7, 1, states)
    reward[:, 2] *= 0.3
    cost = 0.8 * reward + 0.2 * noise
    cost[:, 2] += 1.0
    return CMDP(transition, reward, cost, random.dirichlet(np.ones(states)), 0.9)


@exercise("flow of the visits")
def check_flow_matrix(flow_matrix: Callable[[Array, float], Array]) -> None:
    """`flow_matrix(transition [S, A, S], discount) -> [S, S * A]`, and its usual slips."""
    random = np.random.default_rng()
    for _ in range(ROUNDS):
        transition = random.dirichlet(np.ones(4), size=(4, 3))
        discount = random.uniform(0.5, 0.95)
        answer = solved(flow_matrix(transition.copy(), discount))
        if not close(answer, _flow(transition, discount)):
            _explain_flow(answer, transition, discount)


def _flow(transition: Array, discount: float) -> Array:
    states, actions, _ = transition.shape
    arrives = transition.reshape(states * actions, states).T
    return np.repeat(np.eye(states), actions, axis=1) - discount * arrives


def _explain_flow(answer: Any, transition: Array, discount: float) -> None:
    states, actions, _ = transition.shape
    leaves = np.repeat(np.eye(states), actions, axis=1)
    arrives = transition.reshape(states * actions, states).T
    slips = {
        "the inflow is not discounted; a visit one step later counts gamma times as much.": (
            leaves - arrives
        ),
        "outflow minus inflow is asked for; your inflow is added.": leaves + discount * arrives,
        "your signs are the other way round: outflow counts +, inflow -.": (
            discount * arrives - leaves
        ),
        "the columns are ordered by action first; column s * A + a belongs to visits[s, a], "
        "as visits.ravel() has it.": np.tile(np.eye(states), actions) - discount * arrives,
        "only the inflow is there; what leaves state s, sum_a visits[s, a], is missing.": (
            -discount * arrives
        ),
        "the inflow's columns are mixed up: reshape transition to [S * A, S] first, "
        "then transpose.": leaves - discount * transition.reshape(states, states * actions),
    }
    name_the_slip(answer, slips)
    if np.shape(answer) == (states * actions, states):
        raise Wrong("your matrix is [S * A, S]: one row per equation is needed, so transpose it.")
    same_shape(answer, leaves, "the flow matrix")
    raise Wrong("flow @ visits.ravel() must be what leaves each state minus gamma times inflow.")


@exercise("occupancy program")
def check_occupancy_lp(
    occupancy_lp: Callable[[Array, Array, Array, Array, float], Array],
) -> None:
    """`occupancy_lp(reward, cost, start, flow, cost_limit) -> visits [S, A]`, and its slips."""
    random = np.random.default_rng()
    for binds in (True, True, False):
        problem = _dilemma(random)
        low, high = best_response(problem, 1e4), best_response(problem, 0.0)
        if not binds:  # a limit that can be reached, but that the best policy stays below
            low, high = high, best_response(problem, -1e4)
        limit = low.expected_cost + 0.4 * (high.expected_cost - low.expected_cost)
        flow = _flow(problem.transition, problem.discount)
        inputs = (problem.reward.copy(), problem.cost.copy(), problem.start.copy(), flow.copy())
        answer = solved(occupancy_lp(*inputs, limit))
        _explain_program(answer, problem, flow, limit)


def _explain_program(answer: Any, problem: CMDP, flow: Array, limit: float) -> None:
    if np.shape(answer) == (problem.reward.size,):
        raise Wrong("your visits are flat; reshape them to [S, A].")
    same_shape(answer, problem.reward, "the visits")
    visits = np.asarray(answer, dtype=float)
    if close(visits.sum(axis=1), np.ones(len(visits)), 1e-4):
        raise Wrong("these look like the policy's probabilities; return the visits themselves.")
    if (visits < -1e-6).any():
        raise Wrong("some visits are negative; the bounds must be (0, None).")
    if not close(flow @ visits.ravel(), problem.start, 1e-5):
        raise Wrong("the visits do not flow: flow @ visits must equal the start distribution.")
    value, cost = (visits * problem.reward).sum(), (visits * problem.cost).sum()
    best = solve(problem, limit)
    if cost > limit + 1e-5:
        _explain_cost(value, cost, problem, limit)
    worst = solve(CMDP(problem.transition, -problem.reward, *_rest(problem)), limit)
    if close(value, -worst.expected_return, 1e-5):
        raise Wrong("this is the worst policy: linprog minimises, so hand it minus the reward.")
    if not close(value, best.expected_return, 1e-5):
        if cost > best.expected_cost + 1e-5:
            raise Wrong(
                f"the best visits cost {best.expected_cost:.4f}, less than the limit, and yours "
                f"spend {cost:.4f}: the limit is a bound, so it belongs in A_ub, not in A_eq."
            )
        raise Wrong(
            f"a return of {best.expected_return:.4f} fits inside the limit, yours is {value:.4f}."
        )


def _explain_cost(value: float, cost: float, problem: CMDP, limit: float) -> None:
    free = solve(problem)
    if close(value, free.expected_return, 1e-5):
        raise Wrong(
            "your visits ignore the limit: hand linprog the cost, with a plus sign, as A_ub, "
            "and [cost_limit] as b_ub."
        )
    raise Wrong(
        f"your visits cost {cost:.4f}, the limit is {limit:.4f}: look at A_ub @ x <= b_ub again."
    )


def _rest(problem: CMDP) -> tuple[Array, Array, float]:
    return problem.cost, problem.start, problem.discount


@exercise("dual ascent")
def check_dual_ascent(
    dual_ascent: Callable[[Answer, float, float, int], tuple[Array, Array]],
) -> None:
    """`dual_ascent(answer, cost_limit, learning_rate, iterations) -> costs, multipliers`."""
    random = np.random.default_rng()
    quick = 10.0  # a rate at which the multiplier falls to its floor, and leaves it again
    for slack, rate in ((0.0, None), (0.0, None), (3.0, None), *3 * [(0.0, quick)]):
        policies = np.sort(random.uniform(0, 3, (6, 2)), axis=0) + np.array([3.0, 0.0])
        limit = float(random.uniform(0.7, 1.0) * policies[:, 1].mean() + slack)
        rate = rate or float(random.uniform(0.1, 0.5))
        given = (_answerer(policies), limit, rate, 25)
        pair = solved(dual_ascent(*given))
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise Wrong("return two arrays: costs, multipliers.")
        costs, multipliers = (np.asarray(part, dtype=float) for part in pair)
        same_shape(costs, np.zeros(25), "costs")
        same_shape(multipliers, np.zeros(25), "multipliers")
        expected = _ascend(*given)
        if not (close(costs, expected[0]) and close(multipliers, expected[1])):
            _explain_ascent(multipliers, given)


def _answerer(policies: Array) -> Answer:
    def answer(multiplier: float) -> tuple[float, float]:
        best = policies[np.argmax(policies[:, 0] - multiplier * policies[:, 1])]
        return float(best[0]), float(best[1])

    return answer


def _ascend(
    answer: Answer, limit: float, rate: float, iterations: int, *, sign: float = 1.0,
    floor: float = 0.0, first: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Dual ascent, or one of its slips: the sign, no floor, the multiplier noted too late."""
    multiplier, costs, multipliers = 0.0, [], []
    for _ in range(iterations):
        cost = answer(multiplier)[1]
        answered = multiplier
        multiplier = max(floor, multiplier + sign * rate * (cost - limit))
        costs.append(cost)
        multipliers.append(multiplier if first else answered)
    return np.array(costs), np.array(multipliers)


def _explain_ascent(multipliers: Array, given: tuple[Answer, float, float, int]) -> None:
    if (multipliers < 0).any():
        raise Wrong("a multiplier became negative: that would pay for cost; stop it at 0.")
    if not multipliers.any():
        raise Wrong(
            "your multiplier stays at 0: it must rise by learning_rate * (cost - cost_limit)."
        )
    late = "note the multiplier that was answered, then move it; yours are one step late."
    answer, limit, rate, iterations = given
    plain = _ascend(answer, limit, 1.0, iterations)[1]
    by_return = _ascend(lambda m: answer(m)[::-1], limit, rate, iterations)[1]
    unseen = _ascend(lambda m: answer(max(0, m)), limit, rate, iterations, floor=-np.inf)[1]
    slips = {
        late: _ascend(*given, first=True)[1],
        "the learning rate is missing in the multiplier's step.": plain,
        "answer returns (return, cost); you compare the return with the limit.": by_return,
        "your multiplier goes on falling below 0 where max(0, .) hides it, and comes back late: "
        "keep the clipped value, and move on from that.": np.maximum(unseen, 0),
    }
    name_the_slip(multipliers, slips)
    if multipliers[0] != 0:
        raise Wrong("the first multiplier must be 0: first answer without any price.")
    raise Wrong("each multiplier must be max(0, the last + learning_rate * (cost - cost_limit)).")
