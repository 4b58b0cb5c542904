"""KFCPO on the point-mass world: how near to the best, inside the limit or not, seed by seed.

`python -m kfcpo_lib bench toy`. The best that the trade-off allows is estimated by a long run of
a Lagrangian method (PPO-Lag). "Inside the limit": the mean cost of 100 fresh episodes with
sampled actions is below the limit. `--no-reference` leaves the long run out.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.evaluation import evaluate, mean_interval
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import read_progress
from kfcpo_lib.training import train

WORLD: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "cost_limit": 10.0,
    "num_envs": 200,
    "steps_per_epoch": 20_000,
    "episodic_cost_window": 200,
    "kl_limit": 0.06,
    "hidden_sizes": (32, 32),
    "critic_learning_rate": 5e-3,
    "critic_passes": 4,
    "critic_minibatch": 5_000,
    "policy_snapshots": 0,
}
"""Large epochs and a wide KL limit: here the update, not the simulator, takes the time."""
KFCPO: dict[str, Any] = {
    "algorithm": "kfcpo",
    "total_steps": 1_200_000,
    "margin_lambda": 0.7,
    "steepness_k": 0.1,
    "rule": {"factor_decay": 0.5, "minibatch_size": 5_000, "passes": 3},
}
REFERENCE: dict[str, Any] = {
    "algorithm": "ppo_lag",
    "total_steps": 4_000_000,
    "rule": {
        "learning_rate": 2e-3,
        "minibatch_size": 5_000,
        "passes": 10,
        "multiplier_start": 0.3,
        "multiplier_learning_rate": 0.02,
    },
}


def main(words: Sequence[str]) -> int:
    """Train five seeds and the reference, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench toy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    configs = [TrainConfig(**WORLD, **KFCPO, seed=seed) for seed in range(options.seeds)]
    if options.reference:
        configs.append(TrainConfig(**WORLD, **REFERENCE))
    rows = [measure(config) for config in tqdm(configs, unit="run")]
    if options.reference:
        best = rows[-1]["return"]
        rows = [row | {"return / reference": round(row["return"] / best, 2)} for row in rows]
    print(table(rows))
    save_results(options.out, "toy", rows, world=WORLD, kfcpo=KFCPO, reference=REFERENCE)
    return 0


def measure(config: TrainConfig) -> dict[str, Any]:
    """Train once and evaluate on 100 fresh episodes."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = str(Path(folder) / "run")
        config = TrainConfig(**vars(config) | {"run_dir": run_dir})
        started = time.process_time()
        for _ in train(config):
            pass
        seconds = time.process_time() - started
        result = evaluate(run_dir, 100, "sampled")
        highest_cost = read_progress(run_dir)["episodic_cost_mean"].max()
    low, high = mean_interval(result.costs)
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "steps": config.total_steps,
        "processor seconds": round(seconds, 1),
        "highest cost": round(float(highest_cost), 1),
        "return": round(float(result.returns.mean()), 2),
        "cost": round(float(result.costs.mean()), 2),
        "cost 95 %": f"{low:.1f} to {high:.1f}",
        "inside": bool(result.costs.mean() <= config.cost_limit),
    }
