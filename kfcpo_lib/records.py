"""The plain records that the training loop, the files and the faces of the course share."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Knobs:
    """What may be turned while a training runs. A change takes effect at the next epoch.

    Every assignment is checked, so a slider cannot bring an impossible value into a run.
    """

    margin_lambda: float = 0.8
    """Margin lambda in (0, 1]: the weights are equal where the episodic cost is lambda * C."""
    steepness_k: float = 0.3
    """Steepness k > 0 of the sigmoid, per unit of episodic cost."""
    kl_limit: float = 0.01
    """KL limit > 0 in nats, summed over action dimensions: beyond it a minibatch is undone."""
    cost_limit: float = 25.0
    """Cost limit C > 0, per episode."""

    def __setattr__(self, name: str, value: float) -> None:
        _check(name, value)
        super().__setattr__(name, float(value))


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run. Checked when it is made; the command line has the same.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """

    algorithm: str = "kfcpo"
    """Name of an update rule in `kfcpo_lib.algorithms`."""
    env_id: str = "SafetyPointGoal1-v0"
    """A Safety Gymnasium task, or `PointMass-v0`, the course's point-mass world."""
    total_steps: int = 500_000
    """Environment steps in all, over all environments; rounded up to whole epochs."""
    seed: int = 0
    """Seed of everything random. Environment i gets the stock seed 10,000 * seed + i."""

    cost_limit: float = 25.0
    margin_lambda: float = 0.8
    steepness_k: float = 0.3
    kl_limit: float = 0.01

    num_envs: int = 20
    """Environments stepped side by side."""
    steps_per_epoch: int = 20_000
    """Environment steps between two updates, over all environments together."""
    stagger: bool | None = None
    """Shorten the first episodes so that later ones end evenly spread in time.
    None: only where an epoch does not hold whole episodes."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the tanh layers of the policy and of both critics."""
    log_std_start: float = -0.5
    """Logarithm of the policy's standard deviation at the start."""
    discount: float = 0.99
    """gamma, for reward and cost."""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation, for reward and cost."""
    critic_learning_rate: float = 1e-3
    critic_passes: int = 10
    """Passes over the epoch's data for each critic."""
    critic_minibatch: int = 1_000
    episodic_cost_window: int = 40
    """W: the episodic cost is the mean over the last W finished whole episodes."""

    rule: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the update rule that differ from its own defaults (its `Settings`)."""

    run_dir: str | None = None
    """Folder of the run's files; None keeps nothing on disk."""
    policy_snapshots: int = 10
    """Policies kept along the way, evenly spread over the run."""
    env_threads: int | None = None
    """Threads of the simulator; None: one per processor. The numbers do not depend on it."""
    device: str = "cpu"
    """Where the networks live: `cpu` or `cuda`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        object.__setattr__(self, "rule", dict(self.rule))
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name))
        if self.steps_per_epoch % self.num_envs:
            raise ValueError(
                f"steps_per_epoch must be a multiple of num_envs, "
                f"got {self.steps_per_epoch} and {self.num_envs}"
            )

    def knobs(self) -> Knobs:
        """The knobs at the position this configuration starts with."""
        return Knobs(self.margin_lambda, self.steepness_k, self.kl_limit, self.cost_limit)

    @property
    def epochs(self) -> int:
        """Number of epochs: `total_steps` rounded up to whole epochs."""
        return math.ceil(self.total_steps / self.steps_per_epoch)


@dataclass(frozen=True)
class Minibatch:
    """What happened to one minibatch (one trial step) of an update: a row of `minibatches.csv`."""

    kl: float
    """KL of the trial policy in nats, summed over action dimensions; NaN if it was not finite."""
    committed: bool
    """False: the step was undone."""
    delta: float
    """Trust-region size of the trial step, nats."""
    cosine: float
    """Cosine between the reward direction and the cost direction; NaN if one of them is zero."""


@dataclass(frozen=True)
class UpdateReport:
    """What one call of an update rule did to the policy."""

    minibatches: list[Minibatch]
    cost_weight: float
    """Weight w_c of the cost direction, in [0, 1]."""
    kl: float
    """KL(collecting policy || new policy), mean over the epoch's states, nats."""
    nonfinite: int = 0
    """Trial steps undone because a gradient, a parameter or the KL was not finite."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """The rule's own columns of `progress.csv`, such as a Lagrange multiplier."""


@dataclass(frozen=True)
class Episode:
    """One finished whole episode: a row of `episodes.csv`."""

    env_steps: int
    """Steps of the whole run, over all environments, at which it ended."""
    episode_return: float
    episode_cost: float
    length: int


@dataclass(frozen=True)
class EpochReport:
    """One epoch of a training: a row of `progress.csv`, and the details behind it."""

    epoch: int
    env_steps: int
    return_mean: float
    """Mean return of the whole episodes that ended in this epoch; NaN if none did."""
    episodic_cost_mean: float
    """Mean undiscounted cost of the last W whole episodes; NaN before the first has ended."""
    cost_weight: float
    margin_lambda: float
    steepness_k: float
    kl_limit: float
    cost_limit: float
    kl: float
    """KL(collecting policy || new policy) over the whole epoch, nats."""
    rollbacks: int
    minibatches: int
    conflict_rate: float
    """Share of the minibatches whose two directions disagreed (negative cosine)."""
    conflict_cosine: float
    """Mean cosine of the two directions."""
    delta: float
    policy_std: float
    """Mean over the action dimensions."""
    value_loss_reward: float
    value_loss_cost: float
    nonfinite: int
    """Non-finite numbers kept away from the policy: rewards, costs, gradients, parameters."""
    simulator_errors: int
    """Episodes ended by an exception of the simulator since the run began."""
    rollout_seconds: float
    update_seconds: float
    steps_per_second: float
    extra: Mapping[str, float] = field(default_factory=dict)
    episodes: tuple[Episode, ...] = ()
    details: tuple[Minibatch, ...] = ()

    def row(self) -> dict[str, float]:
        """The numbers of `progress.csv`, in the order of its columns."""
        row = {f.name: getattr(self, f.name) for f in fields(self)[:-3]}
        return row | dict(self.extra)


TIME_COLUMNS = ("rollout_seconds", "update_seconds", "steps_per_second")
"""Columns of `progress.csv` that differ between two runs of one configuration."""


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain numbers, strings and lists, for `config.json`."""
    return asdict(config) | {"hidden_sizes": list(config.hidden_sizes)}


_COUNTS = {
    "total_steps": 1,
    "num_envs": 1,
    "steps_per_epoch": 1,
    "critic_passes": 1,
    "critic_minibatch": 1,
    "episodic_cost_window": 1,
    "policy_snapshots": 0,
    "seed": 0,
}
_POSITIVE = {"steepness_k", "kl_limit", "cost_limit", "critic_learning_rate"}
_SHARES = {"discount": "[0, 1)", "gae_lambda": "[0, 1]", "margin_lambda": "(0, 1]"}
_MOST_ENVS = 10_000


def _check(name: str, value: Any) -> None:
    """Refuse a setting outside its range."""
    if name in _COUNTS:
        lowest = _COUNTS[name]
        if not _is_integer(value) or value < lowest:
            raise ValueError(f"{name} must be an integer of at least {lowest}, got {value!r}")
        if name == "num_envs" and value > _MOST_ENVS:
            # Run s owns the stock seeds from 10,000 s on: one more would be the next run's first.
            raise ValueError(f"num_envs must be at most {_MOST_ENVS}, got {value!r}")
    elif name in _POSITIVE:
        if not _is_number(value) or value <= 0:
            raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    elif name in _SHARES:
        low_open, high_open = _SHARES[name][0] == "(", _SHARES[name][-1] == ")"
        inside = _is_number(value) and 0 <= value <= 1
        if not inside or (low_open and value == 0) or (high_open and value == 1):
            raise ValueError(f"{name} must be in {_SHARES[name]}, got {value!r}")
    elif name == "log_std_start":
        if not _is_number(value):
            raise ValueError(f"log_std_start must be a finite number, got {value!r}")
    elif name == "hidden_sizes" and not all(_is_integer(w) and w >= 1 for w in value):
        raise ValueError(f"hidden_sizes must be positive integers, got {value!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
