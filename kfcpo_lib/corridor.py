"""A corridor in which every value and every policy gradient is known exactly, in plain NumPy.

Cells 0 .. length - 1; each step costs a reward of 1 until the exit behind the last cell. A policy
is one number per cell: the probability to try a step to the right. Nothing is discounted, so a
value is minus the expected number of steps to the exit.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Walks(NamedTuple):
    """One episode a column, all [T, N]; what comes after an episode's end is zero."""

    state: NDArray[np.int64]
    next_state: NDArray[np.int64]
    """`length` is the exit."""
    action: NDArray[np.int64]
    """1: right, 0: left."""
    reward: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    """Whether the step was taken."""


@dataclass(frozen=True)
class Corridor:
    """The walk to the exit; the clock rings after `max_steps` steps."""

    length: int = 8
    start: int = 3
    slip: float = 0.1
    """Probability that a step goes the other way."""
    max_steps: int = 40

    def _moves(self, right: Array) -> Array:
        """[length, length + 1] probabilities of the next cell; the last one is the exit."""
        cells = np.arange(self.length)
        effective = right * (1 - self.slip) + (1 - right) * self.slip
        moves = np.zeros((self.length, self.length + 1))
        moves[cells, cells + 1] = effective
        moves[cells, np.maximum(cells - 1, 0)] += 1 - effective
        return moves

    def values(self, right: Array) -> Array:
        """[length + 1] V(s), the exit's is 0: minus the expected steps to go."""
        inside = self._moves(right)[:, : self.length]
        values = np.linalg.solve(np.eye(self.length) - inside, -np.ones(self.length))
        return np.append(values, 0.0)

    def advantages(self, right: Array) -> Array:
        """[length, 2] A(s, a) of left and right."""
        values = self.values(right)
        actions = [np.zeros(self.length), np.ones(self.length)]
        both = np.stack([self._moves(action) @ values - 1.0 for action in actions], axis=1)
        return np.asarray(both - values[:-1, None])

    def visits(self, right: Array) -> Array:
        """[length] expected steps taken in each cell before the exit or the clock."""
        here, total = np.eye(self.length)[self.start], np.zeros(self.length)
        inside = self._moves(right)[:, : self.length]
        for _ in range(self.max_steps):
            total += here
            here = here @ inside
        return total

    def gradient(self, right: Array) -> Array:
        """[length] exact policy gradient in the logits of `right`: E[sum_t score A(s, a)]."""
        left_right = self.advantages(right)
        spread = right * (1 - right)
        return np.asarray(self.visits(right) * spread * (left_right[:, 1] - left_right[:, 0]))

    def walk(self, right: Array, episodes: int, random: np.random.Generator) -> Walks:
        """Act for one episode in each column."""
        shape = (self.max_steps, episodes)
        state, following, action = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        alive = np.zeros(shape, dtype=bool)
        here = np.full(episodes, self.start)
        for t in range(self.max_steps):
            alive[t] = here < self.length
            state[t] = np.where(alive[t], here, 0)
            action[t] = alive[t] & (random.random(episodes) < right[state[t]])
            slips = random.random(episodes) < self.slip
            step = np.where((action[t] == 1) != slips, 1, -1)
            here = np.where(alive[t], np.maximum(here + step, 0), here)
            following[t] = here
        terminated = alive & (following == self.length)
        truncated = np.zeros(shape, dtype=bool)
        truncated[-1] = alive[-1] & ~terminated[-1]
        return Walks(state, following, action, -1.0 * alive, terminated, truncated, alive)


def gradient_samples(walks: Walks, right: Array, credit: Array) -> Array:
    """[N, length] each episode's policy gradient in the logits: sum_t score_t credit_t.

    The score of cell s is (action - right[s]) where the walker is in s, 0 elsewhere.
    """
    pull = walks.alive * (walks.action - right[walks.state]) * credit
    columns = np.broadcast_to(np.arange(pull.shape[1]), pull.shape)
    sums = np.zeros((pull.shape[1], len(right)))
    np.add.at(sums, (columns.ravel(), walks.state.ravel()), pull.ravel())
    return sums
