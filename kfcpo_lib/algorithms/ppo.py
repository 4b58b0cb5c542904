"""PPO: proximal policy optimisation with the clipped surrogate, no constraint (Schulman 2017).

    minimise -E[min(ratio A_r, clip(ratio, 1 - epsilon, 1 + epsilon) A_r)]
    by Adam over minibatches, pass after pass, until KL(pi_k || pi) > kl_limit

The "no safety" reference line of the first-order rules.
"""

from dataclasses import replace

from torch import Tensor

from kfcpo_lib.algorithms.first_order import FirstOrderSettings, FirstOrderState, adam_passes
from kfcpo_lib.algorithms.surrogates import clipped_gain, likelihood_ratio
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, UpdateReport
from kfcpo_lib.rollouts import Batch

Settings = FirstOrderSettings
State = FirstOrderState


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update; the cost is not looked at."""

    def loss(index: Tensor) -> Tensor:
        rows = batch.rows(index)
        ratio = likelihood_ratio(policy(rows.obs), rows)
        return -clipped_gain(ratio, rows.advantage_reward, state.settings.ratio_clip).mean()

    collecting = policy(batch.obs).detach()
    report = adam_passes(policy, batch, loss, collecting, knobs.kl_limit, state)
    return replace(report, cost_weight=0.0)
