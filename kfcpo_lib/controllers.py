"""Four ways to weigh reward against safety, on a CMDP small enough to be solved by hand.

The shore walk: one state, `steps` steps an episode. An action lands at a ~ N(theta, I) in the
plane; theta is the policy. It earns its progress u . a, and costs 1 for landing in the water,
a_2 > 0. With u = (sqrt(1 - rho^2), rho),

    return  J(theta) = steps * u . theta,     episodic cost  J_C(theta) = steps * Phi(theta_2),

the Fisher matrix is I, the natural directions have constant angle, and their cosine is -rho.
A step of length sqrt(2 delta) has a KL of exactly delta.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kfcpo_lib.blending import blend, margin_weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ShoreWalk:
    """The walk along the shore. Lengths are in standard deviations of the action.

    Raises:
        ValueError: if an episode is not a whole number of dwells.
    """

    conflict: float = 0.6
    """rho in [0, 1]: how much of the way to the reward leads into the water."""
    signal: float = 1.0
    """s in (0, 1]: share of the cost direction's unit length that lowers the cost; the rest of
    an estimated direction is noise that points where nothing happens."""
    steps: int = 100
    """Steps of an episode, and its largest possible cost."""
    dwell: int = 25
    """Steps that one landing lasts: long stays in the water make episodes differ widely. Divides
    `steps`."""

    def __post_init__(self) -> None:
        if self.dwell < 1 or self.steps % self.dwell:
            raise ValueError(f"dwell must divide steps, got {self.dwell!r} and {self.steps!r}")

    def episodic_cost(self, theta: Array) -> float:
        """Expected cost per episode, steps * Phi(theta_2)."""
        return self.steps * 0.5 * math.erfc(-float(theta[1]) / math.sqrt(2.0))

    def episodic_return(self, theta: Array) -> float:
        """Expected return per episode, steps * u . theta."""
        return self.steps * float(self.reward_direction.numpy() @ theta)

    def observe(self, theta: Array, episodes: int, random: np.random.Generator) -> Array:
        """[episodes] costs of single episodes: `dwell` for each landing in the water."""
        probability = self.episodic_cost(theta) / self.steps
        landings = random.binomial(self.steps // self.dwell, probability, episodes)
        return landings * float(self.dwell)

    @property
    def reward_direction(self) -> Tensor:
        """[2] unit ascent direction of the return."""
        along = math.sqrt(1.0 - self.conflict**2)
        return torch.tensor([along, self.conflict], dtype=torch.float64)

    @property
    def cost_direction(self) -> Tensor:
        """[2] descent direction of the cost: away from the water, of length s."""
        return torch.tensor([0.0, -self.signal], dtype=torch.float64)


class Controller(Protocol):
    """Turns an episodic cost into the cost weight w_c and a conflict mode (see `blend`)."""

    def decide(self, episodic_cost: float) -> tuple[float, str]:
        """(w_c, conflict mode) for this epoch's step."""


@dataclass
class HardSwitch:
    """CRPO: all reward up to the limit, all safety above it."""

    cost_limit: float = 20.0

    def decide(self, episodic_cost: float) -> tuple[float, str]:
        """0 or 1."""
        return float(episodic_cost > self.cost_limit), "none"


@dataclass
class SoftSwitch:
    """PCRPO: between the two slacks both count the same, each freed of the conflict."""

    cost_limit: float = 20.0
    slack_low: float = -5.0
    slack_high: float = 0.0

    def decide(self, episodic_cost: float) -> tuple[float, str]:
        """0 below the zone, 1/2 in it, 1 above it."""
        if episodic_cost <= self.cost_limit + self.slack_low:
            return 0.0, "none"
        if episodic_cost > self.cost_limit + self.slack_high:
            return 1.0, "none"
        return 0.5, "project_both"


@dataclass
class Lagrangian:
    """Dual ascent: the multiplier adds up the violations, and weighs by mu / (1 + mu)."""

    cost_limit: float = 20.0
    learning_rate: float = 0.02
    multiplier: float = 0.0

    def decide(self, episodic_cost: float) -> tuple[float, str]:
        """The multiplier's weight, after one step of dual ascent."""
        step = self.learning_rate * (episodic_cost - self.cost_limit)
        self.multiplier = max(0.0, self.multiplier + step)
        return self.multiplier / (1.0 + self.multiplier), "none"


@dataclass
class MarginAware:
    """KFCPO: a logistic weight around the margin centre lambda * C."""

    cost_limit: float = 20.0
    margin_lambda: float = 0.8
    steepness_k: float = 0.3
    conflict: str = "project_cost"

    def decide(self, episodic_cost: float) -> tuple[float, str]:
        """sigmoid(k (c_ep - lambda C))."""
        _, cost_weight = margin_weights(
            episodic_cost, self.cost_limit, self.margin_lambda, self.steepness_k
        )
        return cost_weight, self.conflict


@dataclass
class Trace:
    """What happened, one number an epoch; `theta` has one row more."""

    theta: list[Array] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    """The true episodic cost of the policy at the start of the epoch."""
    estimate: list[float] = field(default_factory=list)
    """c_ep, what the controller was told."""
    cost_weight: list[float] = field(default_factory=list)

    def settled(self) -> Array:
        """The true costs of the second half."""
        return np.array(self.cost[len(self.cost) // 2 :])


def simulate(
    walk: ShoreWalk,
    controller: Controller,
    *,
    epochs: int = 160,
    delta: float = 0.01,
    episodes: int | None = None,
    window: int | None = None,
    start: tuple[float, float] = (0.0, -2.5),
    seed: int = 0,
) -> Trace:
    """Walk: estimate the cost, decide, blend, step by sqrt(2 delta) along the unit blend.

    The whole step lies in the plane: what noise would take of its length, with s < 1, is left out.

    Args:
        episodes: finished episodes an epoch; None tells the controller the true cost.
        window: W, c_ep is the mean over the last W episodes; None: those of this epoch.
    """
    random = np.random.default_rng(seed)
    recent: deque[float] = deque(maxlen=window or episodes)
    trace = Trace(theta=[np.array(start)])
    for _ in range(epochs):
        theta = trace.theta[-1]
        trace.cost.append(walk.episodic_cost(theta))
        if episodes is not None:
            recent.extend(walk.observe(theta, episodes, random))
        trace.estimate.append(float(np.mean(recent)) if recent else trace.cost[-1])
        cost_weight, conflict = controller.decide(trace.estimate[-1])
        trace.cost_weight.append(cost_weight)
        blended = blend(walk.reward_direction, walk.cost_direction, cost_weight, conflict).numpy()
        length = math.sqrt(2.0 * delta) / max(float(np.linalg.norm(blended)), 1e-12)
        trace.theta.append(theta + length * blended)
    return trace


def rest_weight(conflict: float, signal: float = 1.0, *, projected: bool) -> float:
    """w* at which the cost of a `ShoreWalk` neither rises nor falls.

    The step changes the cost by rho w_r - s w_c to first order; with the cost direction
    projected the pull s shrinks to s (1 - rho^2).

    >>> rest_weight(0.5, projected=False), rest_weight(0.5, projected=True)
    (0.3333333333333333, 0.4)
    """
    pull = signal * (1.0 - conflict**2) if projected else signal
    return conflict / (conflict + pull)


def rest_cost(cost_limit: float, margin_lambda: float, steepness_k: float, rest_at: float) -> float:
    """c* = lambda C + logit(w*) / k: the episodic cost whose margin weight is w* in (0, 1)."""
    return margin_lambda * cost_limit + math.log(rest_at / (1.0 - rest_at)) / steepness_k


def weight_noise(steepness_k: float, rest_at: float, cost_noise: float) -> tuple[float, float]:
    """5 % and 95 % quantile of the margin weight when c_ep is normal with this deviation.

    c_ep is centred where the weight is w*; the weight is monotone, so quantiles pass through it.
    """
    centre = math.log(rest_at / (1.0 - rest_at))
    spread = 1.6448536269514722 * steepness_k * cost_noise
    low, high = (1.0 / (1.0 + math.exp(-z)) for z in (centre - spread, centre + spread))
    return low, high


@dataclass
class Budget:
    """The bookkeeping behind the convergence proofs of CRPO and PCRPO, one number a step."""

    zone: list[int] = field(default_factory=list)
    """0 reward alone, 1 both, 2 cost alone."""
    paid: list[float] = field(default_factory=list)
    """2 eta (alpha * reward gap + beta * cost gap) - eta^2 |d|^2."""
    squared_distance: list[float] = field(default_factory=list)
    """|theta - theta*|^2 after the step."""
    start: float = 0.0
    """|theta - theta*|^2 before the first step."""


def switching_budget(
    step_size: float = 0.15,
    steps: int = 80,
    slack_low: float = -0.1,
    slack_high: float = 0.3,
    start: tuple[float, float] = (-3.0, 2.0),
) -> Budget:
    """PCRPO's plain gradient steps on a convex problem: what each step pays towards theta*.

    Return -|theta - (0, 2)|^2 / 2, cost theta_2, limit 0: the best safe policy is theta* = 0.
    """
    theta, goal = np.array(start), np.array([0.0, 2.0])
    budget = Budget(start=float(theta @ theta))
    for _ in range(steps):
        uphill, downhill = goal - theta, np.array([0.0, -1.0])
        zone = int(theta[1] > slack_low) + int(theta[1] > slack_high)
        alpha, beta = switch_coefficients(uphill, downhill, zone)
        move = step_size * (alpha * uphill + beta * downhill)
        reward_gap = 0.5 * (uphill @ uphill - goal @ goal)
        gain = alpha * reward_gap + beta * theta[1]
        theta = theta + move
        budget.zone.append(zone)
        budget.paid.append(float(2.0 * step_size * gain - move @ move))
        budget.squared_distance.append(float(theta @ theta))
    return budget


def switch_coefficients(reward: Array, cost: Array, zone: int) -> tuple[float, float]:
    """(alpha, beta), both >= 0, of PCRPO's step alpha * reward + beta * cost.

    Taking a conflict out of a direction *adds* a piece of the other: never a negative one.
    """
    if zone != 1:
        return float(zone == 0), float(zone == 2)
    conflict = max(0.0, -float(reward @ cost))
    return 0.5 + 0.5 * conflict / float(reward @ reward), 0.5 + 0.5 * conflict / float(cost @ cost)
