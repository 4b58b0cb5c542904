"""Worlds of one state and one step, in closed form: where a policy's geometry can be drawn.

A Gaussian policy is a point (mean, log_std), whatever the coordinates it is trained in
(`Coordinates`). Everything here is NumPy, and exact: nothing is sampled.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOG_STD_RANGE = (-3.0, 1.5)
"""Paths are kept inside, so that a wild step stays drawable."""


class GaussianBandit(NamedTuple):
    """The action earns exp(-(a - target)^2 / (2 width^2)); the policy is N(mean, std^2)."""

    target: float = 2.5
    width: float = 1.0

    def expected_reward(self, mean: Array | float, log_std: Array | float) -> Array:
        """J(mean, log_std), of any shape."""
        spread = self.width**2 + np.exp(2.0 * np.asarray(log_std))
        distance = np.asarray(mean) - self.target
        value: Array = self.width / np.sqrt(spread) * np.exp(-0.5 * distance**2 / spread)
        return value

    def gradient(self, mean: float, log_std: float) -> Array:
        """[2] derivatives of J by mean and log_std."""
        variance = np.exp(2.0 * log_std)
        spread, distance = self.width**2 + variance, self.target - mean
        value = float(self.expected_reward(mean, log_std))
        by_log_std = variance * (distance**2 / spread**2 - 1.0 / spread)
        return value * np.array([distance / spread, by_log_std])


def gaussian_fisher(log_std: float) -> Array:
    """[2, 2] Fisher matrix of a Gaussian in (mean, log_std): diag(1 / std^2, 2)."""
    return np.diag([np.exp(-2.0 * log_std), 2.0])


def gaussian_kl(old: Array, new: Array) -> Array:
    """KL(old || new) in nats; both [..., 2] as (mean, log_std)."""
    old, new = np.asarray(old), np.asarray(new)
    log_ratio = new[..., 1] - old[..., 1]
    distance = (new[..., 0] - old[..., 0]) * np.exp(-new[..., 1])
    kl: Array = log_ratio + 0.5 * (np.exp(-2.0 * log_ratio) + distance**2 - 1.0)
    return kl


class Coordinates(NamedTuple):
    """How somebody writes the policy down: the mean in some unit, and a number for the spread."""

    name: str
    spread: Callable[[float], float]
    """log_std -> the own number."""
    log_std: Callable[[float], float]
    """The own number -> log_std."""
    slope: Callable[[float], float]
    """d log_std / d own number, at a log_std."""
    units_per_metre: float = 1.0

    def jacobian(self, log_std: float) -> Array:
        """[2, 2] d (mean, log_std) / d (own numbers)."""
        return np.diag([1.0 / self.units_per_metre, self.slope(log_std)])

    def move(self, policy: Array, step: Array) -> Array:
        """[2] the policy (mean, log_std) after a step in the own numbers."""
        mean = policy[0] + step[0] / self.units_per_metre
        spread = self.spread(policy[1]) + step[1]
        return np.array([mean, np.clip(self.log_std(spread), *LOG_STD_RANGE)])


def _log(x: float) -> float:
    """log x; of what is not positive, far below every range."""
    return float(np.log(x)) if x > 0 else -np.inf


def _identity(x: float) -> float:
    return x


METRES = Coordinates("mean, log σ", _identity, _identity, lambda _: 1.0)
CENTIMETRES = METRES._replace(name="mean in cm, log σ", units_per_metre=100.0)
STD = Coordinates("mean, σ", lambda x: float(np.exp(x)), _log, lambda x: float(np.exp(-x)))
PRECISION = Coordinates(
    "mean, 1/σ²",
    lambda x: float(np.exp(-2.0 * x)),
    lambda p: -0.5 * _log(p) if p > 0 else np.inf,
    lambda x: float(-0.5 * np.exp(2.0 * x)),
)
COORDINATES = {c.name: c for c in (METRES, STD, PRECISION)}


def ascent_path(
    start: tuple[float, float],
    steps: int,
    *,
    natural: bool,
    coordinates: Coordinates = METRES,
    learning_rate: float | None = None,
    delta: float = 1e-3,
    bandit: GaussianBandit = GaussianBandit(),  # noqa: B008 -- a constant tuple
) -> Array:
    """[steps + 1, 2] policies (mean, log_std) on the way uphill, exact gradients all the way.

    Each step goes along the gradient in the given coordinates, or along the natural gradient
    there; it is `learning_rate` times it, or, without one, as long as a KL of `delta` allows.
    """
    path = [np.array(start, dtype=float)]
    for _ in range(steps):
        mean, log_std = path[-1]
        jacobian = coordinates.jacobian(log_std)
        gradient = jacobian.T @ bandit.gradient(mean, log_std)
        fisher = jacobian.T @ gaussian_fisher(log_std) @ jacobian
        direction = np.linalg.solve(fisher, gradient) if natural else gradient
        size = learning_rate
        if size is None:
            size = math.sqrt(2.0 * delta / max(float(direction @ fisher @ direction), 1e-12))
        path.append(coordinates.move(path[-1], size * direction))
    return np.array(path)


def softmax(logits: Array) -> Array:
    """[..., K] probabilities."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def softmax_fisher(probabilities: Array) -> Array:
    """[K, K] Fisher matrix of a softmax policy in its logits: diag(p) - p p'."""
    return np.diag(probabilities) - np.outer(probabilities, probabilities)


def softmax_path(
    start: Array, rewards: Array, steps: int, *, natural: bool, learning_rate: float
) -> Array:
    """[steps + 1, K] probabilities on the way uphill in E[reward], from the probabilities `start`.

    The Fisher matrix has no inverse (a constant added to all logits changes nothing), so the
    natural gradient takes its pseudo-inverse.
    """
    logits = np.log(np.asarray(start, dtype=float))
    path = [softmax(logits)]
    for _ in range(steps):
        p = path[-1]
        gradient = p * (rewards - p @ rewards)
        direction = (
            np.linalg.pinv(softmax_fisher(p), rcond=1e-9) @ gradient if natural else gradient
        )
        logits = logits + learning_rate * direction
        path.append(softmax(logits))
    return np.array(path)
