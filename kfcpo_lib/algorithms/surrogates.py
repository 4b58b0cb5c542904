"""The surrogate objectives that every update rule improves, from one look at the policy."""

from typing import NamedTuple

import torch
from torch import Tensor

from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.trust_region import flat_gradient


class Surrogates(NamedTuple):
    """L_r = E[ratio * A_r] and L_c = E[ratio * A_c], per step; or their gradients [P]."""

    reward: Tensor
    cost: Tensor


def likelihood_ratio(present: Gaussian, batch: Batch) -> Tensor:
    """[B] pi(a|s) / pi_k(a|s): the present policy's over that of the one that collected."""
    return (present.log_prob(batch.actions) - batch.log_prob).exp()


def surrogates(present: Gaussian, batch: Batch) -> Surrogates:
    """Both surrogate objectives of the present policy, two scalars."""
    ratio = likelihood_ratio(present, batch)
    return Surrogates(
        (ratio * batch.advantage_reward).mean(), (ratio * batch.advantage_cost).mean()
    )


def surrogate_gradients(policy: GaussianPolicy, batch: Batch) -> Surrogates:
    """[P], [P]: uphill in reward, and uphill in cost."""
    parameters = list(policy.parameters())
    objective = surrogates(policy(batch.obs), batch)
    return Surrogates(*(flat_gradient(scalar, parameters) for scalar in objective))


def clipped_gain(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """[B] min(ratio A, clip(ratio) A): PPO's pessimistic gain of each step.

    Its gradient is zero where the ratio has left [1 - clip, 1 + clip] to the side that pays.

    Raises:
        ValueError: unless ratio and advantage are both [B].
    """
    _check_shapes(ratio, advantage)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_cost(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """[B] max(ratio A, clip(ratio) A): pessimistic for a cost, hence the larger of the two."""
    return -clipped_gain(ratio, -advantage, clip)


def _check_shapes(ratio: Tensor, advantage: Tensor) -> None:
    if ratio.ndim != 1 or ratio.shape != advantage.shape:
        raise ValueError(
            f"ratio and advantage must both be [B], got {[*ratio.shape]} and {[*advantage.shape]}"
        )
