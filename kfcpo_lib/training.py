"""The one training loop, for every update rule: collect, update, record, repeat.

A generator that yields a report per epoch, so that a notebook, the studio, the command line and
a sweep drive the same loop, and may turn its knobs between epochs.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kfcpo_lib.algorithms import find_rule, rule_settings
from kfcpo_lib.critics import CriticReport, fit_critics, make_optimiser
from kfcpo_lib.envs import check_env_id, make_vec_env
from kfcpo_lib.envs.interface import Array, VecEnv
from kfcpo_lib.policies import Critics, GaussianPolicy, ObservationNormaliser
from kfcpo_lib.records import EpochReport, Knobs, Minibatch, TrainConfig, UpdateReport
from kfcpo_lib.rollouts import Batch, EpisodeTracker, Rollout, collect, make_batch
from kfcpo_lib.runs import RunWriter, read_checkpoint, to_arrays, to_tensors
from kfcpo_lib.streams import Streams

SEEDS_PER_RUN = 10_000
"""Run s owns the stock seeds 10,000 s to 10,000 s + 9,999, so no two runs share a stream."""
WARMUP_START = 0.05
"""Share of k that a steepness warm-up begins with."""
LOWEST_LAMBDA = 0.05
"""Below this a margin rate does not take lambda."""
MOST_VIOLATION = 0.5
"""What counts of a violation, as a share of the limit: a bad start is not paid for long."""
MOST_SPOILT_EPOCHS = 3
"""So many epochs in a row with numbers that are not finite end the training."""


def train(
    config: TrainConfig, knobs: Knobs | None = None, *, resume: bool = False
) -> Iterator[EpochReport]:
    """Train a policy; yields one report per epoch.

    Args:
        config: every setting of the run.
        knobs: lambda, k, the KL limit and the cost limit; may be changed between epochs. A
            change takes effect at the next epoch and stands in that epoch's report.
        resume: continue the run in `config.run_dir` from its checkpoint, to the same numbers;
            only stock environments, which cannot be saved, begin new episodes.

    Raises:
        ValueError: at the call, on an unknown name, a bad setting or a checkpoint that does not
            fit; nothing has been written then.
        OSError: if the run's folder cannot be written; what was saved can be resumed.
        FloatingPointError: at once if an observation or an action is NaN; after three epochs in a
            row with other numbers of the simulator that are not finite.
    """
    check_config(config)
    if resume and config.run_dir is None:
        raise ValueError("resume needs run_dir, the folder of the run")
    epochs = _epochs(config, knobs, resume)
    next(epochs)
    return epochs


def check_config(config: TrainConfig) -> None:
    """Raise a ValueError if there is no such rule, setting of the rule, task or device."""
    _check_rule(config)
    check_env_id(config.env_id)
    _check_device(config.device)


def _epochs(config: TrainConfig, knobs: Knobs | None, resume: bool) -> Iterator[Any]:
    """Opens everything, pauses once, then yields a report per epoch.

    The pause is there so that errors come at the call of `train`, and so that a training which
    is dropped before its first epoch closes what it opened.
    """
    with contextlib.ExitStack() as opened:
        training = Training.start(config, _epochs_without_environments(config) if resume else 0)
        opened.callback(training.env.close)
        writer = None
        if config.run_dir is not None:
            writer = opened.enter_context(closing(RunWriter.open(config, resume=resume)))
            knobs = _continue(training, writer, knobs)
            if training.epoch < config.epochs:
                writer.begin(config)
        yield
        try:
            yield from _train_on(config, knobs or config.knobs(), training, writer)
        except FloatingPointError as error:
            safe = f"; {writer.folder} is safe up to epoch {writer.epoch}" if writer else ""
            raise FloatingPointError(f"{error}{safe}") from error


def _epochs_without_environments(config: TrainConfig) -> int:
    """Epochs of the run to resume if its checkpoint has no environments (stock ones), else 0."""
    if not (Path(str(config.run_dir)) / "checkpoint.pt").exists():
        return 0
    stored = read_checkpoint(str(config.run_dir))
    return int(stored["epoch"]) if stored.get("env") is None else 0


def _continue(training: "Training", writer: RunWriter, knobs: Knobs | None) -> Knobs | None:
    """Go on from the writer's checkpoint, if it has one; the knobs are where they were left."""
    if writer.checkpoint is None:
        return knobs
    try:
        training.load_state_dict(writer.checkpoint)
        return knobs or Knobs(**writer.checkpoint["knobs"])
    except Exception as error:  # whatever a foreign state meets first
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{writer.folder / 'checkpoint.pt'} does not fit: {reason}") from error


def _train_on(
    config: TrainConfig, knobs: Knobs, training: "Training", writer: RunWriter | None
) -> Iterator[EpochReport]:
    while training.epoch < config.epochs:
        with one_torch_thread():
            turned = replace(knobs)  # as they are now, whoever turns them meanwhile
            report = run_epoch(config, scheduled(config, turned, training), training)
            move_margin(config, turned, training, report)
        if writer is not None:
            save_epoch(config, knobs, training, writer, report)
        yield report
        if training.spoilt_epochs >= MOST_SPOILT_EPOCHS:
            raise FloatingPointError(
                f"{config.env_id} returned observations, rewards or costs that are not finite in "
                f"{training.spoilt_epochs} epochs in a row ({report.nonfinite} in the last): "
                f"stopped at step {report.env_steps}, the policy is that of before them"
            )


@dataclass
class Training:
    """Everything that changes while a training runs."""

    policy: GaussianPolicy
    critics: Critics
    optimiser: torch.optim.Optimizer
    normaliser: ObservationNormaliser
    rule_state: Any
    """The update rule's own `State`."""
    streams: Streams
    env: VecEnv
    obs: Array
    """[num_envs, obs_dim] raw observations to go on from."""
    episodes: EpisodeTracker
    epoch: int = 0
    spoilt_epochs: int = 0
    """Last epochs in a row whose rollout was not finite."""
    lambda_shift: float = 0.0
    """What a margin rate has added to lambda since the knob was turned to `lambda_knob`."""
    lambda_knob: float = math.nan

    @classmethod
    def start(cls, config: TrainConfig, fresh_after: int = 0) -> "Training":
        """New networks and freshly reset environments.

        After each number of epochs these are other ones, until the run's 10,000 seeds are used up.
        """
        streams = Streams.of_seed(config.seed)
        blocks = SEEDS_PER_RUN // config.num_envs
        first_seed = SEEDS_PER_RUN * config.seed + fresh_after % blocks * config.num_envs
        threads = config.env_threads
        env = make_vec_env(config.env_id, config.num_envs, first_seed, num_threads=threads)
        try:
            return cls._in_environments(env, config, streams)
        except BaseException:
            env.close()
            raise

    @classmethod
    def _in_environments(cls, env: VecEnv, config: TrainConfig, streams: Streams) -> "Training":
        sizes, device = config.hidden_sizes, torch.device(config.device)
        start, kind = config.log_std_start, config.network
        policy = GaussianPolicy(
            env.obs_shape, env.act_dim, sizes, start, streams.networks, kind
        ).to(device)
        critics = Critics(env.obs_dim, sizes, streams.networks).to(device)
        settings = rule_settings(config.algorithm, config.rule)
        length = env.max_episode_steps
        episodes = EpisodeTracker(config.num_envs, config.episodic_cost_window, length)
        stagger = is_staggered(config, length)
        episodes.start(stagger)
        return cls(
            policy,
            critics,
            make_optimiser(critics, config.critic_learning_rate),
            ObservationNormaliser(env.obs_dim),
            find_rule(config.algorithm).State.start(policy, settings, streams),
            streams,
            env,
            env.reset(stagger=stagger),
            episodes,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs, as tensors, numbers and strings."""
        return {
            "epoch": self.epoch,
            "spoilt_epochs": self.spoilt_epochs,
            "lambda_shift": self.lambda_shift,
            "lambda_knob": self.lambda_knob,
            "policy": self.policy.state_dict(),
            "critics": self.critics.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "normaliser": self.normaliser.state_dict(),
            "rule": self.rule_state.state_dict(),
            "streams": self.streams.state_dict(),
            "env": to_tensors(self.env.state()),
            "simulator_errors": self.env.simulator_errors,
            "obs": to_tensors(self.obs),
            "episodes": to_tensors(self.episodes.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same configuration.

        Environments that cannot be saved stay freshly reset; so do the sums of their episodes.
        """
        self.epoch, self.spoilt_epochs = state["epoch"], int(state["spoilt_epochs"])
        self.lambda_shift = float(state.get("lambda_shift", 0.0))
        self.lambda_knob = float(state.get("lambda_knob", math.nan))
        for name in ("policy", "critics", "optimiser", "normaliser", "streams"):
            getattr(self, name).load_state_dict(state[name])
        self.rule_state.load_state_dict(state["rule"])
        episodes = to_arrays(state["episodes"])
        if state["env"] is None:
            self.env.simulator_errors = state["simulator_errors"]
            fresh = self.episodes.state_dict()
            episodes |= {name: fresh[name] for name in ("running", "shortened")}
        else:
            self.env.set_state(to_arrays(state["env"]))
            self.obs[:] = to_arrays(state["obs"])
        self.episodes.load_state_dict(episodes)

    def policy_dict(self) -> dict[str, Any]:
        """What acting needs: the policy, the normaliser and their sizes."""
        return {
            "env_id": self.env.env_id,
            "obs_dim": self.env.obs_dim,
            "act_dim": self.env.act_dim,
            "obs_shape": [*self.env.obs_shape],
            "hidden_sizes": [*self.policy.hidden_sizes],
            "network": self.policy.network,
            "env_steps": self.episodes.env_steps,
            "policy": self.policy.state_dict(),
            "normaliser": self.normaliser.state_dict(),
        }


def scheduled(config: TrainConfig, knobs: Knobs, training: Training) -> Knobs:
    """A copy of the knobs for the next epoch: lambda, k and the KL limit as they are by then."""
    shares = schedules(config, training.episodes.env_steps)
    changed = {knob: getattr(knobs, knob) * shares[knob] for knob in shares}
    if config.margin_rate:
        changed["margin_lambda"] = within_bounds(knobs.margin_lambda + shift_of(knobs, training))
    return replace(knobs, **changed)


def shift_of(knobs: Knobs, training: Training) -> float:
    """What a margin rate has added to lambda; nothing where its knob has been turned since."""
    return training.lambda_shift if training.lambda_knob == knobs.margin_lambda else 0.0


def within_bounds(margin_lambda: float) -> float:
    """The nearest lambda that a margin rate may bring about."""
    return min(1.0, max(LOWEST_LAMBDA, margin_lambda))


def moved_lambda(margin_lambda: float, rate: float, episodic_cost: float, limit: float) -> float:
    """lambda for the epoch after one with this c_ep: lower after a violation, higher after none.

    The same where c_ep is not known yet, NaN.
    """
    if math.isnan(episodic_cost):
        return margin_lambda
    violation = min(MOST_VIOLATION, max(-MOST_VIOLATION, episodic_cost / limit - 1.0))
    return within_bounds(margin_lambda - rate * violation)


def move_margin(
    config: TrainConfig, turned: Knobs, training: Training, report: EpochReport
) -> None:
    """Let a margin rate move lambda for the epochs to come.

    Args:
        turned: the knobs that the epoch began with, without their schedules.
        report: of the epoch, with the lambda that was in force.
    """
    if not config.margin_rate or training.spoilt_epochs:
        return
    now, shift = report.margin_lambda, shift_of(turned, training)
    if turned.margin_lambda + shift != now:  # it was held at a bound
        shift = now - turned.margin_lambda
    after = moved_lambda(now, config.margin_rate, report.episodic_cost_mean, report.cost_limit)
    training.lambda_shift = shift + (after - now)
    training.lambda_knob = turned.margin_lambda


def schedules(config: TrainConfig, env_steps: int) -> dict[str, float]:
    """Knob -> what its schedule leaves of it in an epoch that begins at this step, in (0, 1]."""
    done = min(1.0, env_steps / config.steepness_warmup) if config.steepness_warmup else 1.0
    halvings = env_steps / config.kl_halving if config.kl_halving else 0.0
    return {"steepness_k": float(WARMUP_START ** (1.0 - done)), "kl_limit": 1 / (1 + halvings)}


def run_epoch(config: TrainConfig, knobs: Knobs, training: Training) -> EpochReport:
    """Collect, update the policy, fit the critics, renew the normaliser, report."""
    started = time.perf_counter()
    rollout = collect_epoch(config, training)
    collected = time.perf_counter()
    update, critics = learn(config, knobs, training, rollout)
    training.epoch += 1
    finished = time.perf_counter()
    seconds = (collected - started, finished - collected)
    return make_report(training, knobs, update, critics, rollout, seconds)


def collect_epoch(config: TrainConfig, training: Training) -> Rollout:
    """An epoch of data from the present policy."""
    steps = config.steps_per_epoch // config.num_envs
    rollout, training.obs = collect(
        training.env,
        training.policy,
        training.normaliser,
        training.obs,
        steps,
        training.episodes,
        training.streams.actions,
    )
    return rollout


def make_epoch_batch(config: TrainConfig, training: Training, rollout: Rollout) -> Batch:
    """The epoch's data as the update rules and the critics take it."""
    return make_batch(
        rollout,
        training.policy,
        training.critics,
        config.discount,
        config.gae_lambda,
        training.episodes.episode_length,
        cost_look_ahead(config, training.episodes.env_steps - config.steps_per_epoch),
    )


def cost_look_ahead(config: TrainConfig, env_steps: int) -> float | None:
    """The cost's own lambda of GAE in an epoch that begins at this step; None: the reward's."""
    if config.cost_gae_lambda is None or not config.cost_gae_warmup:
        return config.cost_gae_lambda
    done = min(1.0, env_steps / config.cost_gae_warmup)
    return (1.0 - done) * config.gae_lambda + done * config.cost_gae_lambda


def learn(
    config: TrainConfig, knobs: Knobs, training: Training, rollout: Rollout
) -> tuple[UpdateReport, CriticReport]:
    """One update of policy, critics and normaliser; none of them sees a spoilt rollout.

    The critics learn on a thread of their own: they and the policy share the data alone.
    """
    episodic_cost = training.episodes.episodic_cost
    training.spoilt_epochs = training.spoilt_epochs + 1 if rollout.nonfinite else 0
    if rollout.nonfinite:
        return UpdateReport([], math.nan, 0.0), CriticReport(math.nan, math.nan, 0)
    batch = make_epoch_batch(config, training, rollout)
    told = replace(knobs, cost_limit=config.limit_share * knobs.cost_limit)
    with ThreadPoolExecutor(1) as beside:
        fitted = beside.submit(
            fit_critics,
            training.critics,
            training.optimiser,
            batch,
            config.critic_passes,
            config.critic_minibatch,
            training.streams.critics,
        )
        update = find_rule(config.algorithm).update(
            training.policy, batch, episodic_cost, told, training.rule_state
        )
        critics = fitted.result()
    training.normaliser.update(rollout.raw_obs)
    return update, critics


def make_report(
    training: Training,
    knobs: Knobs,
    update: UpdateReport,
    critics: CriticReport,
    rollout: Rollout,
    seconds: tuple[float, float],
) -> EpochReport:
    """The epoch's numbers in one record."""
    episodes = training.episodes.take_finished()
    episodic_cost = training.episodes.episodic_cost
    return EpochReport(
        epoch=training.epoch,
        env_steps=training.episodes.env_steps,
        return_mean=_mean([episode.episode_return for episode in episodes]),
        episodic_cost_mean=math.nan if episodic_cost is None else episodic_cost,
        cost_weight=update.cost_weight,
        **vars(knobs),
        kl=update.kl,
        **sum_up(update.minibatches),
        policy_std=float(training.policy.log_std.detach().exp().mean()),
        value_loss_reward=critics.loss_reward,
        value_loss_cost=critics.loss_cost,
        nonfinite=rollout.nonfinite + update.nonfinite + critics.nonfinite,
        simulator_errors=training.env.simulator_errors,
        rollout_seconds=seconds[0],
        update_seconds=seconds[1],
        steps_per_second=rollout.reward.size / sum(seconds),
        extra=update.extra,
        episodes=episodes,
        details=tuple(update.minibatches),
    )


def sum_up(trials: Sequence[Minibatch]) -> dict[str, Any]:
    """The columns that tell of an epoch's trial steps."""
    cosines = np.array([trial.cosine for trial in trials if math.isfinite(trial.cosine)])
    return {
        "rollbacks": sum(not trial.committed for trial in trials),
        "minibatches": len(trials),
        "conflict_rate": _mean(cosines < 0),
        "conflict_cosine": _mean(cosines),
        "delta": trials[-1].delta if trials else math.nan,
    }


def save_epoch(
    config: TrainConfig, knobs: Knobs, training: Training, writer: RunWriter, report: EpochReport
) -> None:
    """Tables first, then the policy, then the checkpoint that makes them count."""
    writer.append(report)
    policy = training.policy_dict()
    if snapshot_is_due(config, training.epoch):
        writer.save_policy(policy, f"snapshots/policy_{report.env_steps:09d}.pt")
    writer.save_policy(policy)
    writer.save_checkpoint(config, training.state_dict() | {"knobs": vars(knobs).copy()})


def snapshot_is_due(config: TrainConfig, epoch: int) -> bool:
    """Whether the policy after this epoch is one of the run's evenly spread snapshots."""
    due, due_before = (n * config.policy_snapshots // config.epochs for n in (epoch, epoch - 1))
    return due > due_before


def is_staggered(config: TrainConfig, episode_length: int) -> bool:
    """Whether the first episodes are shortened: as configured, else where epochs cut episodes."""
    if config.stagger is not None:
        return config.stagger
    return (config.steps_per_epoch // config.num_envs) % episode_length != 0


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Compute on one thread inside the block: small networks are fastest so, and the numbers do
    not depend on how many processors there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_rule(config: TrainConfig) -> None:
    """Refuse an unknown update rule, and settings that it does not have or cannot take."""
    defaults = vars(rule_settings(config.algorithm, {}))
    for name, value in config.rule.items():
        kind = type(value if defaults.get(name) is None else defaults[name])
        if type(value) is not kind and (type(value), kind) != (int, float):
            raise ValueError(
                f"{name} of {config.algorithm} must be of type {kind.__name__}, got {value!r}"
            )
    rule_settings(config.algorithm, config.rule)
    if config.algorithm == "kfcpo" and config.limit_share != 1:
        raise ValueError(
            f"limit_share must be 1 for kfcpo, got {config.limit_share!r}: "
            "its share of the limit is margin_lambda"
        )
    if config.algorithm != "kfcpo" and config.margin_rate:
        raise ValueError(
            f"margin_rate must be 0 for {config.algorithm}, got {config.margin_rate!r}: it moves "
            "KFCPO's lambda; cpo and pcpo have one of their own, in rule"
        )


def _check_device(device: str) -> None:
    try:
        kind = torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); try 'cpu'") from error
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")


def _mean(numbers: Any) -> float:
    return float(np.mean(numbers)) if len(numbers) else math.nan
