"""What each update rule costs an epoch, beside the rollout and KFCPO, in one interleaved run.

`python -m kfcpo_lib bench rules`. Every round collects an epoch of data, fits the critics to it,
and hands the same batch to every rule, each starting from the same policy with its own defaults.
Rounds alternate, so a machine that is busy with other things slows all of them; each ratio is the
median over the rounds. A first-order rule costs what its KL stop lets it: see `trials`, the
passes (or line-search trials, or minibatches) of the last round.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.algorithms import RULES, rule_settings
from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.critics import fit_critics
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams
from kfcpo_lib.training import Training, collect_epoch, make_epoch_batch, one_torch_thread


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench rules", description=__doc__)
    parser.add_argument("--env", default=TrainConfig.env_id)
    parser.add_argument("--num-envs", type=int, default=TrainConfig.num_envs)
    parser.add_argument("--steps-per-epoch", type=int, default=TrainConfig.steps_per_epoch)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(argv)
    config = TrainConfig(
        env_id=options.env, num_envs=options.num_envs, steps_per_epoch=options.steps_per_epoch
    )
    with one_torch_thread():
        seconds, trials = measure(config, options.rounds)
    rows = rows_of(seconds, trials)
    print(table(rows))
    save_results(options.out, "rules", rows, **vars(options))
    return 0


def measure(
    config: TrainConfig, rounds: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
    """Seconds of the rollout, the critics and every rule, [rounds]; and each rule's trials.

    A first round warms up and is not counted.
    """
    training = Training.start(config)
    states: dict[str, tuple[Any, Any]] = {}
    for name, rule in RULES.items():
        policy = copy.deepcopy(training.policy)
        state = rule.State.start(policy, rule_settings(name, {}), Streams.of_seed(config.seed))
        states[name] = policy, state
    seconds: dict[str, list[float]] = {name: [] for name in ("rollout", "critics", *RULES)}
    trials: dict[str, int] = {}
    for _ in range(rounds + 1):
        batch = epoch_of_data(config, training, seconds)
        for name, (policy, state) in states.items():
            policy.load_state_dict(training.policy.state_dict())
            episodic_cost = training.episodes.episodic_cost
            started = time.perf_counter()
            report = RULES[name].update(policy, batch, episodic_cost, config.knobs(), state)
            seconds[name].append(time.perf_counter() - started)
            trials[name] = len(report.minibatches)
    training.env.close()
    return {name: np.array(times[1:]) for name, times in seconds.items()}, trials


def epoch_of_data(
    config: TrainConfig, training: Training, seconds: dict[str, list[float]]
) -> Batch:
    """Collect an epoch and fit the critics to it, both timed; the policy stays as it is."""
    started = time.perf_counter()
    rollout = collect_epoch(config, training)
    collected = time.perf_counter()
    batch = make_epoch_batch(config, training, rollout)
    fitting = time.perf_counter()
    passes = config.critic_passes, config.critic_minibatch
    fit_critics(training.critics, training.optimiser, batch, *passes, training.streams.critics)
    seconds["rollout"].append(collected - started)
    seconds["critics"].append(time.perf_counter() - fitting)
    return batch


def rows_of(
    seconds: dict[str, NDArray[np.float64]], trials: dict[str, int]
) -> list[dict[str, Any]]:
    """One row each: median seconds, and medians of the ratios within a round."""
    return [
        {
            "what": name,
            "seconds": round(float(np.median(times)), 3),
            "/ rollout": round(float(np.median(times / seconds["rollout"])), 2),
            "/ kfcpo": round(float(np.median(times / seconds["kfcpo"])), 2),
            "trials": trials.get(name, ""),
        }
        for name, times in seconds.items()
    ]
