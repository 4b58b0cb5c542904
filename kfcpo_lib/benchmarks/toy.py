"""KFCPO on the point-mass world: inside the limit, close to the best, in seconds, for every seed.

`python -m kfcpo_lib bench toy`. The best that the trade-off allows is estimated by a long run of
a Lagrangian method (TRPO-Lag). "Inside the limit": the mean cost of 100 fresh episodes with
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
    "num_envs": 50,
    "steps_per_epoch": 10_000,
    "episodic_cost_window": 100,
}
KFCPO: dict[str, Any] = {"algorithm": "kfcpo"}
REFERENCE: dict[str, Any] = {
    "algorithm": "trpo_lag",
    "total_steps": 3_000_000,
    "kl_limit": 0.02,
    "rule": {"natural_gradient": "kfac", "damping": 0.01},
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
        started = time.perf_counter()
        for _ in train(config):
            pass
        seconds = time.perf_counter() - started
        result = evaluate(run_dir, 100, "sampled")
        highest_cost = read_progress(run_dir)["episodic_cost_mean"].max()
    low, high = mean_interval(result.costs)
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "steps": config.total_steps,
        "seconds": round(seconds, 1),
        "highest cost": round(float(highest_cost), 1),
        "return": round(float(result.returns.mean()), 2),
        "cost": round(float(result.costs.mean()), 2),
        "cost 95 %": f"{low:.1f} to {high:.1f}",
        "inside": bool(result.costs.mean() <= config.cost_limit),
    }
