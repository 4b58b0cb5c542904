"""The surrogate objectives that every update rule differentiates."""

from typing import NamedTuple

from torch import Tensor

from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.trust_region import flat_gradient


class Surrogates(NamedTuple):
    """L_r = E[ratio * A_r] and L_c = E[ratio * A_c], per step; or their gradients [P]."""

    reward: Tensor
    cost: Tensor


def likelihood_ratio(policy: GaussianPolicy, batch: Batch) -> Tensor:
    """[B] pi(a|s) / pi_k(a|s), with pi_k the policy that collected the batch."""
    log_prob: Tensor = policy(batch.obs).log_prob(batch.actions)
    return (log_prob - batch.log_prob).exp()


def surrogates(policy: GaussianPolicy, batch: Batch) -> Surrogates:
    """Both surrogate objectives at the policy's present parameters, two scalars."""
    ratio = likelihood_ratio(policy, batch)
    return Surrogates(
        (ratio * batch.advantage_reward).mean(), (ratio * batch.advantage_cost).mean()
    )


def surrogate_gradients(policy: GaussianPolicy, batch: Batch) -> Surrogates:
    """[P], [P]: uphill in reward, and uphill in cost."""
    parameters = list(policy.parameters())
    objective = surrogates(policy, batch)
    return Surrogates(*(flat_gradient(scalar, parameters) for scalar in objective))
