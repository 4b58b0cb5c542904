"""CUP: constrained update projection (Yang et al. 2022).

lambda <- clip(Adam step on -lambda (J_C - C), 0, upper)
improve:  PPO on A_r alone, until KL(pi_k || pi) > kl_limit; call the result pi'
project:  minimise E[lambda (1 - gamma gae_lambda) / (1 - gamma) ratio A_c + KL(pi || pi')],
          the ratio still against pi_k, until KL(pi' || pi) > kl_limit
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kfcpo_lib.algorithms.first_order import FirstOrderSettings, FirstOrderState, adam_passes
from kfcpo_lib.algorithms.multipliers import Multiplier
from kfcpo_lib.algorithms.surrogates import clipped_gain, likelihood_ratio
from kfcpo_lib.gaussians import mean_kl
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import NOT_NEGATIVE, POSITIVE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams


@dataclass(frozen=True)
class Settings(FirstOrderSettings):
    """CUP's own settings. Raises ValueError on a value that is not allowed."""

    multiplier_start: float = 0.001
    multiplier_learning_rate: float = 0.035
    multiplier_upper: float = 2.0
    cost_factor: float = 5.95
    """(1 - gamma gae_lambda) / (1 - gamma) for gamma 0.99 and gae_lambda 0.95; goes with them."""
    projection_learning_rate: float = 2e-4
    """Adam's step in the projection, which has averages of its own. In published code both stages
    share them and their step: on SafetyPointGoal1 at 1e-3 a single pass then brought a KL of 0.1 to
    0.3 against a limit of 0.02, which undid what the improvement had learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("multiplier_start", self.multiplier_start, NOT_NEGATIVE)
        for name in (
            "multiplier_learning_rate",
            "multiplier_upper",
            "cost_factor",
            "projection_learning_rate",
        ):
            check_number(name, getattr(self, name), POSITIVE)


@dataclass
class State(FirstOrderState):
    """Adam's averages of the improvement and of the projection, and the multiplier."""

    projection: FirstOrderState
    multiplier: Multiplier

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        base = FirstOrderState.start(policy, settings, streams)
        gentle = replace(settings, learning_rate=settings.projection_learning_rate)
        projection = FirstOrderState.start(policy, gentle, streams)
        multiplier = Multiplier(
            settings.multiplier_start, settings.multiplier_learning_rate, settings.multiplier_upper
        )
        return cls(settings, base.optimiser, base.generator, projection, multiplier)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update: the multiplier, the improvement, the projection."""
    multiplier = state.multiplier.update(episodic_cost, knobs.cost_limit)
    weight = multiplier * state.settings.cost_factor

    def improve(index: Tensor) -> Tensor:
        rows = batch.rows(index)
        ratio = likelihood_ratio(policy(rows.obs), rows)
        return -clipped_gain(ratio, rows.advantage_reward, state.settings.ratio_clip).mean()

    def project(index: Tensor) -> Tensor:
        rows = batch.rows(index)
        present = policy(rows.obs)
        cost = likelihood_ratio(present, rows) * rows.advantage_cost
        loss: Tensor = weight * cost + present.kl(improved.rows(index))
        return loss.mean()

    collecting = policy(batch.obs).detach()
    first = adam_passes(policy, batch, improve, collecting, knobs.kl_limit, state)
    improved = policy(batch.obs).detach()
    second = adam_passes(policy, batch, project, improved, knobs.kl_limit, state.projection)
    with torch.no_grad():
        kl = float(mean_kl(collecting, policy(batch.obs)))
    return UpdateReport(
        first.minibatches + second.minibatches,
        state.multiplier.cost_weight,
        kl,
        first.nonfinite + second.nonfinite,
        {"multiplier": multiplier, "kl_improve": first.kl, "kl_project": second.kl},
    )
