"""The plain records that the training loop, the files and the faces of the course share."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

NETWORKS = ("mlp", "cnn", "gru")
"""Kinds of networks; `kfcpo_lib.networks` makes them."""


@dataclass
class Knobs:
    """What may be turned while a training runs. A change takes effect at the next epoch.

    Every assignment is checked, so a slider cannot bring an impossible value into a run.

    Raises:
        ValueError: names the knob, the value and what is allowed.
        AttributeError: if there is no such knob.
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
        known = [f.name for f in fields(self)]
        if name not in known:
            raise AttributeError(f"there is no knob {name!r}; there are {', '.join(known)}")
        super().__setattr__(name, _checked(name, value))


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run. Checked when it is made; the command line has the same.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """

    algorithm: str = "kfcpo"
    """Name of an update rule in `kfcpo_lib.algorithms`."""
    env_id: str = "SafetyPointGoal1-v0"
    """A Safety Gymnasium task, a toy such as `PointMass-v0`, the course's point-mass world, or a
    running robot such as `ControlCostHalfCheetah-v4`."""
    total_steps: int = 500_000
    """Environment steps in all, over all environments; rounded up to whole epochs."""
    seed: int = 0
    """Seed of everything random, below 200,000. Environment i gets the stock seed
    10,000 * seed + i."""

    cost_limit: float = 25.0
    margin_lambda: float = 0.8
    steepness_k: float = 0.3
    kl_limit: float = 0.01
    limit_share: float = 1.0
    """The share in (0, 1] of the cost limit that the update rule is told; all the rest is judged by
    the whole. Ours: what lambda is to KFCPO, for the rules that come to rest above their limit."""
    margin_rate: float = 0.0
    """Each epoch lambda falls by this times (c_ep - C) / C, which counts from -1/2 to 1/2; 0: it
    stays. Within [0.05, 1], from where the knob was turned to. Ours, an integral part: the
    weights alone let the cost rest beside the limit."""
    steepness_warmup: int = 0
    """Steps over which k grows geometrically from a twentieth of its value to the whole; 0: none.
    Ours: at a cost far above the limit a steep k leaves the reward no weight."""
    kl_halving: int = 0
    """Steps after which the KL limit has halved: it falls as 1 / (1 + steps / kl_halving); 0: it
    stays. Ours: what is learned last is fine, and steps as large as the first would blur it."""

    num_envs: int = 20
    """Environments stepped side by side."""
    steps_per_epoch: int = 20_000
    """Environment steps between two updates, over all environments together."""
    stagger: bool | None = None
    """Shorten the first episodes so that later ones end evenly spread in time.
    None: only where an epoch does not hold whole episodes."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the tanh layers of the policy and of both critics."""
    network: str = "mlp"
    """Of the policy: `mlp`; `cnn` for pictures, two convolutions before those layers; `gru` for
    windows of the past, with the first width as that of its state. Critics are MLPs (ours)."""
    log_std_start: float = -0.5
    """Logarithm of the policy's standard deviation at the start."""
    discount: float = 0.99
    """gamma, for reward and cost."""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation, for reward and cost."""
    cost_gae_lambda: float | None = None
    """The same for the cost's advantage alone, not for its critic; None: `gae_lambda`. Less of a
    cost gradient is signal, so that a shorter look ahead can pay (`bench noise`)."""
    cost_gae_warmup: int = 0
    """Steps over which the cost's lambda of GAE goes from `gae_lambda` to `cost_gae_lambda`; 0: it
    is there from the start. Ours: a short look ahead believes a critic that knows nothing yet."""
    critic_learning_rate: float = 1e-3
    critic_passes: int = 3
    """Passes over the epoch's data for each critic: more fit its noise, and predict the costs of
    fresh episodes worse."""
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
        for setting in fields(self):
            plain = _checked(setting.name, getattr(self, setting.name))
            object.__setattr__(self, setting.name, plain)
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
        return -(-self.total_steps // self.steps_per_epoch)


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
    """Weight w_c of the cost direction, in [0, 1]. Of a second-order rule beta / (alpha + beta) of
    its step alpha x - beta p: that depends on the unit of cost, so it compares within one rule and
    one task only."""
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
    """Non-finite numbers kept away from the policy: observations (up to twice each, see `Rollout`),
    rewards, costs, gradients, parameters."""
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


_COUNTS: dict[str, tuple[int, int | None]] = {
    "total_steps": (1, None),
    # Run s owns the stock seeds from 10,000 s to 10,000 s + 9,999; evaluations those from
    # 2,000,000,000 on; a stock seed has 32 bits.
    "seed": (0, 199_999),
    "num_envs": (1, 10_000),
    "steps_per_epoch": (1, None),
    "critic_passes": (1, None),
    "critic_minibatch": (1, None),
    "episodic_cost_window": (1, None),
    "policy_snapshots": (0, None),
    "env_threads": (1, None),
    "steepness_warmup": (0, None),
    "kl_halving": (0, None),
    "cost_gae_warmup": (0, None),
}
"""Lowest and highest value of the whole numbers."""
Allowed = tuple[str, Callable[[float], bool]]
"""What numbers a setting takes, in words and as a test."""
POSITIVE: Allowed = ("a positive finite number", lambda x: x > 0)
NOT_NEGATIVE: Allowed = ("a finite number of at least 0", lambda x: x >= 0)
FINITE: Allowed = ("a finite number", lambda x: True)
SHARE: Allowed = ("in [0, 1]", lambda x: 0 <= x <= 1)
SHARE_OF_LIMIT: Allowed = ("in (0, 1]", lambda x: 0 < x <= 1)
_NUMBERS: dict[str, Allowed] = {
    "cost_limit": POSITIVE,
    "margin_lambda": SHARE_OF_LIMIT,
    "limit_share": SHARE_OF_LIMIT,
    "margin_rate": NOT_NEGATIVE,
    "steepness_k": POSITIVE,
    "kl_limit": POSITIVE,
    "log_std_start": FINITE,
    "discount": ("in [0, 1)", lambda x: 0 <= x < 1),
    "gae_lambda": SHARE,
    "cost_gae_lambda": SHARE,
    "critic_learning_rate": POSITIVE,
}
"""What is allowed of the other numbers."""


def check_number(name: str, value: Any, allowed: Allowed) -> None:
    """Raise a ValueError unless the setting is a finite number that is allowed."""
    words, inside = allowed
    if not _is_finite(value) or not inside(value):
        raise ValueError(f"{name} must be {words}, got {value!r}")


def _checked(name: str, value: Any) -> Any:
    """The setting as a plain Python value; refused outside its range."""
    if value is None and name in ("stagger", "cost_gae_lambda", "run_dir", "env_threads"):
        return None
    if name in _COUNTS:
        return check_integer(name, value, *_COUNTS[name])
    if name in _NUMBERS:
        check_number(name, value, _NUMBERS[name])
        return float(value)
    if name == "hidden_sizes":
        if not isinstance(value, list | tuple):
            raise ValueError(f"hidden_sizes must be a tuple of integers, got {value!r}")
        return tuple(check_integer("each of hidden_sizes", width, 1) for width in value)
    if name == "rule":
        return _plain_rule(value)
    if name == "network" and value not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {value!r}")
    if name == "stagger":
        if not isinstance(value, bool):
            raise ValueError(f"stagger must be True, False or None, got {value!r}")
        return value
    return _text(name, value)


def check_integer(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """The setting as a plain integer; a ValueError unless it is one between the two."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < lowest:
        raise ValueError(f"{name} must be an integer of at least {lowest}, got {value!r}")
    if highest is not None and int(value) > highest:
        raise ValueError(f"{name} must be an integer of at most {highest}, got {value!r}")
    return int(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _plain_rule(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise ValueError(f"rule must be a mapping of settings to values, got {settings!r}")
    return {str(name): _plain(name, value) for name, value in settings.items()}


def _plain(name: str, value: Any) -> Any:
    """A rule's setting without NumPy's types, which neither JSON nor a checkpoint holds."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if not _is_finite(value):
        raise ValueError(f"{name} must be a finite number, a word or a truth value, got {value!r}")
    return int(value) if isinstance(value, Integral) else float(value)


def _text(name: str, value: Any) -> str:
    """A name; paths as words."""
    text = os.fspath(value) if name == "run_dir" and isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name} must be a word that is not empty, got {value!r}")
    return text
