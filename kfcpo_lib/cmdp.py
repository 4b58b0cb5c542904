"""Tabular constrained MDPs, solved exactly: occupancy measures, linear program, Lagrangian dual.

Returns and costs here are discounted sums from the start distribution. A policy [S, A] holds the
probability of each action in each state. Source: Altman, *Constrained Markov Decision Processes*
(1999), chapters 3 and 4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Array = NDArray[np.float64]

MOVES = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}
"""Actions of a grid world, in the order of their numbers, as (row, column) steps."""


LARGE_MULTIPLIER = 1e4
"""A price of cost at which every policy first avoids all cost that it can."""

FLOODED_TOWN = (
    "S.xx.xxx.G",
    ".###.####.",
    "...x......",
    ".########.",
    "..........",
)
"""The course's grid world: a short wet street, a side street with a puddle, a long dry way."""


@dataclass(frozen=True)
class CMDP:
    """A finite constrained Markov decision process. Raises ValueError on what is none."""

    transition: Array
    """[S, A, S] probability of the next state."""
    reward: Array
    """[S, A] expected reward of one step."""
    cost: Array
    """[S, A] expected cost of one step, not negative."""
    start: Array
    """[S] distribution of the first state."""
    discount: float
    """gamma in [0, 1)."""

    def __post_init__(self) -> None:
        states, actions = self.reward.shape
        shapes = {
            "transition": (states, actions, states),
            "cost": (states, actions),
            "start": (states,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        if not np.isfinite([self.reward, self.cost]).all():
            raise ValueError("reward and cost must be finite numbers")
        if (self.cost < 0).any():
            raise ValueError(f"cost must not be negative, got {self.cost.min()}")
        for name in ("transition", "start"):
            if not np.allclose(getattr(self, name).sum(axis=-1), 1.0):
                raise ValueError(f"the probabilities of {name} must sum to 1")
            if (getattr(self, name) < 0).any():
                raise ValueError(f"the probabilities of {name} must not be negative")
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must be in [0, 1), got {self.discount!r}")


class Solution(NamedTuple):
    """A policy and what it is worth."""

    policy: Array
    """[S, A]"""
    expected_return: float
    expected_cost: float
    multiplier: float
    """What one more unit of cost limit would add to the return; 0 where the limit is slack."""


def occupancy(cmdp: CMDP, policy: Array) -> Array:
    """[S, A] discounted expected number of visits, sum_t gamma^t P(s_t = s, a_t = a).

    Solves rho = start + gamma P_pi' rho; all visits add up to 1 / (1 - gamma).
    """
    moves = np.einsum("sa,sat->st", policy, cmdp.transition)
    visits = np.linalg.solve(np.eye(len(policy)) - cmdp.discount * moves.T, cmdp.start)
    return np.asarray(visits[:, None] * policy)


def policy_of(visits: Array) -> Array:
    """[S, A] the policy with these visits; uniform in states that are never visited."""
    visits = np.maximum(visits, 0.0)
    total = visits.sum(axis=1, keepdims=True)
    uniform = np.full_like(visits, 1.0 / visits.shape[1])
    return np.where(total > 1e-12, visits / np.where(total > 1e-12, total, 1.0), uniform)


def evaluate_policy(cmdp: CMDP, policy: Array) -> tuple[float, float]:
    """Expected discounted return and cost: both are linear in the occupancy measure."""
    visits = occupancy(cmdp, policy)
    return float((visits * cmdp.reward).sum()), float((visits * cmdp.cost).sum())


def solve(cmdp: CMDP, cost_limit: float | None = None) -> Solution:
    """The best policy with expected cost at most `cost_limit` (None: no limit), exactly.

    The linear program over occupancy measures: maximise <rho, r> subject to rho >= 0, the flow
    through every state, and <rho, c> <= C.

    Raises:
        ValueError: if no policy keeps the limit; names the lowest cost there is.
    """
    flow = _flow_matrix(cmdp)
    limits = None if cost_limit is None else cmdp.cost.reshape(1, -1)
    result = linprog(
        -cmdp.reward.ravel(), A_ub=limits, b_ub=None if cost_limit is None else [cost_limit],
        A_eq=flow, b_eq=cmdp.start,
    )  # fmt: skip
    if result.x is None:
        lowest = linprog(cmdp.cost.ravel(), A_eq=flow, b_eq=cmdp.start).fun
        raise ValueError(
            f"no policy keeps the cost limit {cost_limit!r}: the lowest cost is {lowest:.4g}"
        )
    policy = policy_of(result.x.reshape(cmdp.reward.shape))
    multiplier = 0.0 if cost_limit is None else float(-result.ineqlin.marginals[0])
    return Solution(policy, *evaluate_policy(cmdp, policy), multiplier)


def _flow_matrix(cmdp: CMDP) -> Array:
    """[S, S * A] what leaves a state minus the discounted inflow must be its start probability."""
    states, actions = cmdp.reward.shape
    leaves = np.repeat(np.eye(states), actions, axis=1)
    arrives = cmdp.transition.reshape(states * actions, states).T
    return np.asarray(leaves - cmdp.discount * arrives)


def best_response(cmdp: CMDP, multiplier: float) -> Solution:
    """The best deterministic policy for the reward r - multiplier * c, by policy iteration.

    In states with several best actions one of them is taken.
    """
    reward = cmdp.reward - multiplier * cmdp.cost
    states = np.arange(len(reward))
    greedy = reward.argmax(axis=1)
    while True:
        moves, gains = cmdp.transition[states, greedy], reward[states, greedy]
        values = np.linalg.solve(np.eye(len(reward)) - cmdp.discount * moves, gains)
        action_values = reward + cmdp.discount * cmdp.transition @ values
        better = action_values.max(axis=1) > action_values[states, greedy] + 1e-10
        if not better.any():
            break
        greedy = np.where(better, action_values.argmax(axis=1), greedy)
    policy = np.eye(reward.shape[1])[greedy]
    return Solution(policy, *evaluate_policy(cmdp, policy), multiplier)


def dual_value(cmdp: CMDP, cost_limit: float, multiplier: float) -> float:
    """max over policies of J - multiplier (J_C - C): an upper bound of the constrained optimum."""
    best = best_response(cmdp, multiplier)
    return best.expected_return - multiplier * (best.expected_cost - cost_limit)


def dual_ascent(
    cmdp: CMDP, cost_limit: float, learning_rate: float, iterations: int, multiplier: float = 0.0
) -> list[Solution]:
    """Answer the multiplier with its best policy, then move it by the violation, again and again.

    multiplier <- max(0, multiplier + learning_rate (J_C - C)). The last policy is deterministic,
    so it jumps between too much cost and too little; the average over iterations settles.
    """
    trace = []
    for _ in range(iterations):
        answer = best_response(cmdp, multiplier)
        trace.append(answer)
        multiplier = max(0.0, multiplier + learning_rate * (answer.expected_cost - cost_limit))
    return trace


def pareto_front(cmdp: CMDP, cost_limits: Iterable[float]) -> list[Solution]:
    """The exact solution for each cost limit."""
    return [solve(cmdp, limit) for limit in cost_limits]


def front_corners(cmdp: CMDP) -> list[Solution]:
    """The corners of the Pareto front, by rising cost: the best answers to all multipliers.

    Between the cheapest and the freest policy the front is the upper hull of all policies'
    (cost, return): answer the slope between two corners, until no answer lies above their line.
    """

    def between(low: Solution, high: Solution) -> list[Solution]:
        cost = high.expected_cost - low.expected_cost
        if cost < 1e-7:
            return []
        slope = (high.expected_return - low.expected_return) / cost
        best = best_response(cmdp, slope)
        gain = best.expected_return - low.expected_return
        if gain - slope * (best.expected_cost - low.expected_cost) < 1e-6:
            return []
        return [*between(low, best), best, *between(best, high)]

    low, high = best_response(cmdp, LARGE_MULTIPLIER), best_response(cmdp, 0.0)
    if high.expected_cost - low.expected_cost < 1e-7:
        return [high]  # the freest policy is the cheapest: a front of one point
    return [low, *between(low, high), high]


def simulate(
    cmdp: CMDP, policy: Array, episodes: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Undiscounted return and cost of each episode, [episodes] each.

    The discount is played as a battery: after every step an episode goes on with probability
    gamma. So step t is reached with probability gamma^t, and the means of these plain sums are
    the discounted return and cost.
    """
    next_state = cmdp.transition.cumsum(axis=2)
    action = policy.cumsum(axis=1)
    sums = np.zeros((2, episodes))
    state = _draw(cmdp.start.cumsum()[None, :], random.random(episodes))
    running = np.arange(episodes)
    while len(running):
        chosen = _draw(action[state], random.random(len(running)))
        sums[:, running] += cmdp.reward[state, chosen], cmdp.cost[state, chosen]
        state = _draw(next_state[state, chosen], random.random(len(running)))
        goes_on = random.random(len(running)) < cmdp.discount
        running, state = running[goes_on], state[goes_on]
    return sums[0], sums[1]


def _draw(cumulative: Array, chance: Array) -> NDArray[np.int64]:
    """Indices drawn from cumulative probabilities [n, K]; rounding never leads past the last."""
    last = cumulative.shape[1] - 1
    drawn: NDArray[np.int64] = np.minimum((cumulative <= chance[:, None]).sum(axis=1), last)
    return drawn


def grid_world(
    rows: Sequence[str], discount: float = 0.95, slip: float = 0.1, hazard_cost: float = 1.0
) -> CMDP:
    """A grid world from its picture: `S` start, `G` goal, `x` hazard, `#` wall, `.` free.

    Each move goes astray to one of the two sides with probability `slip` in all. Entering the
    goal gives reward 1 and ends the episode (a final state without reward); each step that
    starts on a hazard costs `hazard_cost`. States are the cells row by row, then the final one.

    Raises:
        ValueError: if the rows differ in length, start or goal is missing, or `slip` is not a
            probability.
    """
    if not 0 <= slip <= 1:
        raise ValueError(f"slip must be in [0, 1], got {slip!r}")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"all rows must have one length, got {[len(row) for row in rows]}")
    picture = "".join(rows)
    if "S" not in picture or "G" not in picture:
        raise ValueError("the picture needs a start S and a goal G")
    final, actions = len(picture), len(MOVES)
    transition = np.zeros((final + 1, actions, final + 1))
    transition[final, :, final] = 1.0
    for cell in range(final):
        for action in range(actions):
            for turn, share in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
                goes_to = _neighbour(rows, cell, (action + turn) % actions)
                transition[cell, action, goes_to] += share
    goals = [cell for cell, letter in enumerate(picture) if letter == "G"]
    reward = transition[:, :, goals].sum(axis=2)
    transition[goals] = transition[final]
    reward[goals] = 0.0
    cost = np.zeros_like(reward)
    cost[[cell for cell, letter in enumerate(picture) if letter == "x"]] = hazard_cost
    start = np.array([letter == "S" for letter in picture] + [False], dtype=float)
    return CMDP(transition, reward, cost, start / start.sum(), discount)


def _neighbour(rows: Sequence[str], cell: int, action: int) -> int:
    """The cell that a move leads to; walls and the border stop it."""
    width = len(rows[0])
    down, right = list(MOVES.values())[action]
    row, column = cell // width + down, cell % width + right
    inside = 0 <= row < len(rows) and 0 <= column < width
    return row * width + column if inside and rows[row][column] != "#" else cell
