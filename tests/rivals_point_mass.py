"""Training the rivals on the point-mass world in seconds: the settings, and how a run is judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfcpo_lib.evaluation import evaluate
from kfcpo_lib.evidence import mean_interval
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train

LIMIT = 10.0
TOLD = 7.0
"""The limit that the rules are given: below the one they are judged by, so that the noise of the
last epochs does not decide. KFCPO's own margin is of that size."""
WORLD: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "num_envs": 50,
    "steps_per_epoch": 10_000,
    "kl_limit": 0.03,
    "cost_limit": TOLD,
    "hidden_sizes": (32, 32),
    "critic_learning_rate": 3e-3,
    "critic_minibatch": 2_500,
    "policy_snapshots": 0,
}
SECOND_ORDER = {"fisher_states": 1_000}
FIRST_ORDER = {"learning_rate": 3e-3, "minibatch_size": 1_000, "passes": 8}
LAGRANGIAN = {"multiplier_start": 0.3, "multiplier_learning_rate": 0.05}
"""Twenty epochs are too few for a multiplier that starts at 0 and moves by 0.035."""
CONSTRAINED: dict[str, dict[str, Any]] = {
    "cpo": SECOND_ORDER | {"margin_rate": 0.1},
    "pcpo": SECOND_ORDER | {"margin_rate": 0.3},
    "trpo_lag": SECOND_ORDER | LAGRANGIAN,
    "crpo": SECOND_ORDER,
    "pcrpo": SECOND_ORDER,
    "ppo_lag": FIRST_ORDER | LAGRANGIAN,
    "cup": FIRST_ORDER
    | {
        "multiplier_start": 0.05,
        "multiplier_learning_rate": 0.02,
        "projection_learning_rate": 1e-3,
    },
    "p3o": FIRST_ORDER | {"kappa": 2.0},
}
UNCONSTRAINED: dict[str, dict[str, Any]] = {"trpo": SECOND_ORDER, "ppo": FIRST_ORDER}


@dataclass(frozen=True)
class Outcome:
    """A trained policy over 100 fresh episodes, with sampled actions."""

    episode_return: float
    cost: float
    cost_low: float
    cost_high: float
    """The 95 % interval of the mean cost."""
    seconds: float
    """Of training, rollouts and updates."""

    @property
    def inside(self) -> bool:
        """The interval lies below the limit, or contains it with its centre below."""
        return self.cost_high < LIMIT or (self.cost < LIMIT and self.cost_low <= LIMIT)

    @property
    def outside(self) -> bool:
        """The interval lies above the limit."""
        return self.cost_low > LIMIT


def train_and_judge(
    algorithm: str, seed: int, steps: int, folder: Path, rule: dict[str, Any] | None = None
) -> Outcome:
    """One run of a rule, with its settings of above unless others are given."""
    rule = rule or (CONSTRAINED | UNCONSTRAINED)[algorithm]
    config = TrainConfig(
        algorithm, total_steps=steps, seed=seed, rule=rule, run_dir=str(folder / algorithm), **WORLD
    )
    seconds = sum(report.rollout_seconds + report.update_seconds for report in train(config))
    found = evaluate(folder / algorithm, 100, "sampled")
    low, high = mean_interval(found.costs)
    means = float(found.returns.mean()), float(found.costs.mean())
    return Outcome(*means, low, high, seconds)
