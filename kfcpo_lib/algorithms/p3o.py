"""P3O: penalised proximal policy optimisation (Zhang et al. 2022, arXiv:2205.11814).

    minimise  -E[min(ratio A_r, clip(ratio) A_r)]
              + kappa max(0, E[max(ratio A_c, clip(ratio) A_c)] + c)
    by Adam over minibatches, pass after pass, until KL(pi_k || pi) > kl_limit

An exact penalty: for a finite kappa above the optimal multiplier its minimum is the constrained
problem's. The cost is clipped to its pessimistic side, the larger one. The objective agrees with
public restatements of the paper's, which has (1 - gamma)(J_C - C) with discounted costs for c;
kappa there either grows within the update, or is fixed while the advantages are standardised.
Ours: kappa is fixed and c = (J_C - C) / T is the violation per step, the unit of the cost
surrogate, which is why A_c is not standardised.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kfcpo_lib.algorithms.first_order import FirstOrderSettings, FirstOrderState, adam_passes
from kfcpo_lib.algorithms.second_order import violation
from kfcpo_lib.algorithms.surrogates import clipped_cost, clipped_gain, likelihood_ratio
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import POSITIVE, Knobs, UpdateReport, check_number
from kfcpo_lib.rollouts import Batch


@dataclass(frozen=True)
class Settings(FirstOrderSettings):
    """P3O's own settings. Raises ValueError on a value that is not allowed."""

    kappa: float = 5.0
    """Weight of the penalty, per unit of cost per step. Exact above the optimal multiplier, about
    1 while A_r is standardised; the larger, the harder the switch (published code: 20)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("kappa", self.kappa, POSITIVE)


State = FirstOrderState


def penalty(cost_change: Tensor, c: float, kappa: float) -> Tensor:
    """kappa max(0, cost_change + c): closed, without gradient, where the limit is kept."""
    return kappa * torch.relu(cost_change + c)


def update(
    policy: GaussianPolicy, batch: Batch, episodic_cost: float | None, knobs: Knobs, state: State
) -> UpdateReport:
    """One epoch's update."""
    settings = state.settings
    c = violation(episodic_cost, knobs.cost_limit, batch)
    open_gates: list[bool] = []

    def loss(index: Tensor) -> Tensor:
        rows = batch.rows(index)
        ratio = likelihood_ratio(policy(rows.obs), rows)
        gain = clipped_gain(ratio, rows.advantage_reward, settings.ratio_clip).mean()
        cost = clipped_cost(ratio, rows.advantage_cost, settings.ratio_clip)
        # A_c has mean zero over the epoch but not over a minibatch, which would move the gate.
        paid = penalty((cost - rows.advantage_cost).mean(), c, settings.kappa)
        open_gates.append(bool(paid > 0))
        return paid - gain

    collecting = policy(batch.obs).detach()
    report = adam_passes(policy, batch, loss, collecting, knobs.kl_limit, state)
    share_open = sum(open_gates) / len(open_gates)
    return replace(report, cost_weight=share_open, extra={"c": c, "gate_open": share_open})
