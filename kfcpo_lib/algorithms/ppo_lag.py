"""PPO-Lag: PPO on the Lagrangian advantage, its multiplier by dual ascent (Ray et al. 2019).

lambda <- clip(Adam step on -lambda (J_C - C), 0)
A = (A_r - lambda A_c) / (1 + lambda)
minimise -E[min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A)]
by Adam over minibatches, pass after pass, until KL(pi_k || pi) > kl_limit
"""

from dataclasses import dataclass, replace

from torch import Tensor

from kfcpo_lib.algorithms.first_order import FirstOrderSettings, FirstOrderState, adam_passes
from kfcpo_lib.algorithms.multipliers import Multiplier, lagrangian_advantage
from kfcpo_lib.algorithms.surrogates import clipped_gain, likelihood_ratio
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import NOT_NEGATIVE, POSITIVE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams


@dataclass(frozen=True)
class Settings(FirstOrderSettings):
    """PPO-Lag's own settings. Raises ValueError on a value that is not allowed."""

    multiplier_start: float = 0.001
    multiplier_learning_rate: float = 0.035

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("multiplier_start", self.multiplier_start, NOT_NEGATIVE)
        check_number("multiplier_learning_rate", self.multiplier_learning_rate, POSITIVE)


@dataclass
class State(FirstOrderState):
    """Adam's averages and the multiplier."""

    multiplier: Multiplier

    @classmethod
    def start(cls, policy: GaussianPolicy, settings: Settings, streams: Streams) -> "State":
        """The state before the first update."""
        base = FirstOrderState.start(policy, settings, streams)
        multiplier = Multiplier(settings.multiplier_start, settings.multiplier_learning_rate)
        return cls(settings, base.optimiser, base.generator, multiplier)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update: the multiplier first, then the policy."""
    multiplier = state.multiplier.update(episodic_cost, knobs.cost_limit)
    advantage = lagrangian_advantage(batch.advantage_reward, batch.advantage_cost, multiplier)

    def loss(index: Tensor) -> Tensor:
        rows = batch.rows(index)
        ratio = likelihood_ratio(policy(rows.obs), rows)
        return -clipped_gain(ratio, advantage[index], state.settings.ratio_clip).mean()

    collecting = policy(batch.obs).detach()
    report = adam_passes(policy, batch, loss, collecting, knobs.kl_limit, state)
    weight = state.multiplier.cost_weight
    return replace(report, cost_weight=weight, extra={"multiplier": multiplier})
