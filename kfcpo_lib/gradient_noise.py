"""How much of an epoch's gradient is signal: what independent estimates of it have in common.

Each estimate is truth plus noise of its own, x_i = m + noise_i. Then <x_i, x_j> of two different
ones is <m, m> on average, and <x_i, x_i> is that and the noise's square. Ilyas et al. (2020) look
at policy gradients in this way, McCandlish et al. (2018) at the noise of any gradient.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kfcpo_lib.algorithms.surrogates import surrogate_gradients
from kfcpo_lib.fisher import FisherMetric
from kfcpo_lib.policies import Critics, GaussianPolicy
from kfcpo_lib.rollouts import Rollout, make_batch


class Estimates(NamedTuple):
    """One gradient, estimated n times from data of its own."""

    gradients: Tensor
    """[n, P] of ascent."""
    directions: Tensor
    """[n, P] the natural gradients, F^-1 times them."""


def products(first: Estimates, second: Estimates) -> Tensor:
    """[n, n] inner products of the directions in the Fisher metric, <x_i, y_j>_F = g_i' y_j."""
    return first.gradients.double() @ second.directions.double().T


def common(products: Tensor) -> float:
    """<m, m'> of what the estimates have in common: the mean over i != j, which has no bias.

    Raises:
        ValueError: of a single estimate, whose noise cannot be told from its truth.
    """
    n = len(products)
    if n < 2:
        raise ValueError(f"it takes two estimates or more to see what they share, got {n}")
    return float(products.sum() - products.trace()) / (n * (n - 1))


def clarity(estimates: Estimates) -> float:
    """About the cosine between one estimate and the truth; 0 if they have nothing in common."""
    own = products(estimates, estimates)
    shared = common(own)
    return 0.0 if shared <= 0 else math.sqrt(shared / float(own.diagonal().mean()))


def cosine_of_truths(first: Estimates, second: Estimates) -> float:
    """Cosine between what the first and what the second estimates have in common.

    NaN where one of them is lost in noise. Noise takes it a little beyond 1 at times.
    """
    squares = [common(products(own, own)) for own in (first, second)]
    both = common(products(first, second))
    return both / math.sqrt(squares[0] * squares[1]) if min(squares) > 0 else math.nan


def mean_cosine(first: Estimates, second: Estimates) -> float:
    """Mean cosine between two directions of the same epoch, as an update sees it."""
    lengths = [products(own, own).diagonal().sqrt() for own in (first, second)]
    return float((products(first, second).diagonal() / (lengths[0] * lengths[1])).mean())


def pull(estimates: Estimates, objective: Estimates) -> float:
    """What a step of length 1 along one estimate changes of an objective, to first order.

    On average over the noise: the longer it makes the estimates, the less is left for the truth.

    Args:
        estimates: of the direction of the step; 0 if they have no length.
        objective: of the gradient whose objective is looked at, from the same data.
    """
    length = math.sqrt(float(products(estimates, estimates).diagonal().mean()))
    return common(products(objective, estimates)) / length if length > 0 else 0.0


class Rest(NamedTuple):
    """Where a blend of two unit directions leaves the cost as it is."""

    cost_weight: float
    """w_c there; NaN if the cost's direction does not lower the cost."""
    gain: float
    """What a step of w_r + w_c = 1 still changes of the reward."""


def at_rest(
    reward_on_reward: float, reward_on_cost: float, cost_on_reward: float, cost_on_cost: float
) -> Rest:
    """The rest of a blend w_r n_r + w_c n_c, from what each direction changes of each objective.

    w_r reward_on_cost + w_c cost_on_cost = 0, without a projection; the changes are those of
    `pull`, of the cost positive where it rises.
    """
    if reward_on_cost <= 0:
        return Rest(0.0, reward_on_reward)
    if cost_on_cost >= 0:
        return Rest(math.nan, math.nan)
    weight = reward_on_cost / (reward_on_cost - cost_on_cost)
    return Rest(weight, (1 - weight) * reward_on_reward + weight * cost_on_reward)


def estimate(
    rollouts: Sequence[Rollout],
    policy: GaussianPolicy,
    critics: Critics,
    fisher: FisherMetric,
    discount: float,
    gae_lambda: float,
) -> tuple[Estimates, Estimates]:
    """The reward's ascent and the cost's descent, one estimate of each for each rollout.

    Args:
        rollouts: all collected by this policy.
        fisher: factors that have seen the policy's states.
        gae_lambda: for both advantages.
    """
    length = float(len(rollouts[0].reward))
    batches = [
        make_batch(rollout, policy, critics, discount, gae_lambda, length) for rollout in rollouts
    ]
    pairs = [surrogate_gradients(policy, batch) for batch in batches]
    ascents = [pair.reward for pair in pairs], [-pair.cost for pair in pairs]
    reward, cost = (
        Estimates(torch.stack(some), torch.stack([fisher.precondition(g) for g in some]))
        for some in ascents
    )
    return reward, cost
