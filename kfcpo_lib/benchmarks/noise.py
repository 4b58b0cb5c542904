"""How much of the reward's and the cost's gradient is signal, by lambda of GAE.

`python -m kfcpo_lib bench noise RUN...`, for runs with their checkpoints. Each policy stays as it
is and collects many epochs; each gives an estimate of both natural gradients, and what the
estimates have in common is the truth (`kfcpo_lib.gradient_noise`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.gradient_noise import (
    Estimates,
    clarity,
    cosine_of_truths,
    estimate,
    mean_cosine,
    pull,
)
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.rollouts import Rollout
from kfcpo_lib.runs import read_checkpoint, read_config, read_train_config
from kfcpo_lib.training import Training, collect_epoch, one_torch_thread

LAMBDAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 1.0)
REFERENCE = 0.95
"""The lambda whose truth the others' are compared with."""
DAMPING = 1.0


def main(words: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench noise", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs with their checkpoints")
    parser.add_argument("--epochs", type=int, default=60, help="estimates, an epoch of data each")
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    if options.epochs < 2:
        parser.error(f"--epochs must be at least 2, got {options.epochs}")
    with one_torch_thread():
        rows = [row for run in options.runs for row in rows_of(run, options.epochs)]
    print(table(rows))
    configs = {Path(run).name: read_config(run)["settings"] for run in options.runs}
    save_results(
        options.out, "noise", rows, epochs=options.epochs, damping=DAMPING, configs=configs
    )
    return 0


def rows_of(run: str, epochs: int) -> list[dict[str, Any]]:
    """What one run's policy shows, a row for each lambda."""
    config = read_train_config(run, run_dir=None)
    training = Training.start(config)
    training.load_state_dict(read_checkpoint(run))
    env_steps = training.episodes.env_steps
    rollouts = [collect_epoch(config, training) for _ in tqdm(range(epochs), unit="epoch")]
    episodes = config.steps_per_epoch / config.num_envs / training.env.max_episode_steps
    told = {
        "run": Path(run).name,
        "env_steps": env_steps,
        "return": round(_mean_sum([r.reward for r in rollouts]) / episodes, 1),
        "cost": round(_mean_sum([r.cost for r in rollouts]) / episodes, 1),
    }
    return [told | row for row in measure(training, config, rollouts)]


def _mean_sum(signals: Sequence[Array]) -> float:
    """Of signals [T, N], summed over the steps: the mean over all environments."""
    return float(np.mean([signal.sum(axis=0) for signal in signals]))


def measure(
    training: Training, config: TrainConfig, rollouts: Sequence[Rollout]
) -> list[dict[str, Any]]:
    """A row for each lambda."""
    fisher = KFAC(training.policy, DAMPING, decay=0.0)
    every_tenth = [torch.from_numpy(rollout.obs).flatten(0, 1)[::10] for rollout in rollouts]
    fisher.update_factors(torch.cat(every_tenth))
    fixed = rollouts, training.policy, training.critics, fisher, config.discount
    found = {share: estimate(*fixed, share) for share in tqdm(LAMBDAS, unit="lambda")}
    return [row(share, *found[share], *found[REFERENCE]) for share in LAMBDAS]


def row(
    share: float,
    reward: Estimates,
    cost: Estimates,
    reference_reward: Estimates,
    reference_cost: Estimates,
) -> dict[str, Any]:
    """Clarity of both directions, their truths, the conflict, and what a step of length 1 changes.

    The pulls are in thousandths: of the reward, the standardised one, and of the cost, per step.
    """
    pulls = {
        "reward's pull on the reward": pull(reward, reference_reward),
        "reward's pull on the cost": -pull(reward, reference_cost),
        "cost's pull on the reward": pull(cost, reference_reward),
        "cost's pull on the cost": -pull(cost, reference_cost),
    }
    numbers = {
        "reward's clarity": clarity(reward),
        "cost's clarity": clarity(cost),
        "reward's truth, cosine to reference": cosine_of_truths(reward, reference_reward),
        "cost's truth, cosine to reference": cosine_of_truths(cost, reference_cost),
        "conflict in an epoch": mean_cosine(reward, cost),
        "conflict of the truths": cosine_of_truths(reward, cost),
        **{name: 1_000 * number for name, number in pulls.items()},
    }
    return {"lambda": share} | {name: round(number, 3) for name, number in numbers.items()}
