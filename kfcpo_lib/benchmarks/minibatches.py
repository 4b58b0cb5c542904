"""Do larger minibatches learn as well? PPO-Lag on the point-mass world, size by size, seed by seed.

`python -m kfcpo_lib bench minibatches`. Published code takes minibatches of 64 with Adam's step
3e-4; ours are of 500 with 1e-3, about the square root of the ratio. Both may make as many passes,
and the same KL limit ends them. Stored for each run: Adam's steps and the processor time that the
training took, the return in every quarter of it, and the last quarter's cost.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train

WORLD: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "total_steps": 300_000,
    "cost_limit": 10.0,
    "num_envs": 50,
    "steps_per_epoch": 10_000,
    "kl_limit": 0.02,
    "hidden_sizes": (32, 32),
    "critic_learning_rate": 3e-3,
    "critic_minibatch": 2_500,
    "policy_snapshots": 0,
}
RULE: dict[str, Any] = {"passes": 10, "multiplier_start": 0.3, "multiplier_learning_rate": 0.05}
LEARNING_RATES = {64: 3e-4, 500: 1e-3}
"""Minibatch size -> Adam's step."""


def main(words: Sequence[str]) -> int:
    """Train every size with every seed, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(
        prog="python -m kfcpo_lib bench minibatches", description=__doc__
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    runs = [(size, seed) for seed in range(options.seeds) for size in LEARNING_RATES]
    rows = [measure(size, seed) for size, seed in tqdm(runs, unit="run")]
    rows.sort(key=lambda row: int(row["minibatch"]))
    print(table(rows))
    save_results(options.out, "minibatches", rows, world=WORLD, rule=RULE)
    return 0


def measure(minibatch: int, seed: int) -> dict[str, Any]:
    """Train PPO-Lag once with minibatches of this size."""
    rule = RULE | {"minibatch_size": minibatch, "learning_rate": LEARNING_RATES[minibatch]}
    config = TrainConfig("ppo_lag", seed=seed, rule=rule, **WORLD)
    started = time.process_time()
    reports = list(train(config))
    seconds = time.process_time() - started
    passes = sum(report.minibatches for report in reports)
    returns = in_quarters([report.return_mean for report in reports])
    costs = in_quarters([report.episodic_cost_mean for report in reports])
    return {
        "minibatch": minibatch,
        "seed": seed,
        "passes an epoch": round(passes / len(reports), 1),
        "Adam steps": passes * -(-config.steps_per_epoch // minibatch),
        "processor seconds": round(seconds, 1),
        **{f"return {k}/4": value for k, value in enumerate(returns, 1)},
        "cost 4/4": costs[-1],
    }


def in_quarters(values: Sequence[float]) -> list[float]:
    """The mean of every quarter; an epoch in which no episode ended does not count."""
    return [round(float(np.nanmean(part)), 2) for part in np.array_split(values, 4)]
