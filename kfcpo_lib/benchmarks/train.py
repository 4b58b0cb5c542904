"""How fast a whole KFCPO training is, and where its time goes.

`python -m kfcpo_lib bench train`. With `--omnisafe-python`, a Python that has OmniSafe 0.5.0, its
CPO training is timed in the same run (`tests/reference/README.md` says how to install it):
OmniSafe, ours, OmniSafe, ours.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train

OMNISAFE_SCRIPT = Path(__file__).parents[2] / "tests" / "reference" / "omnisafe_speed.py"
WARM_UP_EPOCHS = 1
TEN_MILLION = 10_000_000


def main(words: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench train", description=__doc__)
    parser.add_argument("--env", default="SafetyPointGoal1-v0")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps-per-epoch", type=int, nargs="+", default=[20_000, 5_000])
    parser.add_argument("--omnisafe-python", help="a Python with OmniSafe 0.5.0")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    rows: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        if options.omnisafe_python:
            rows += [omnisafe(options.omnisafe_python, options.env, envs) for envs in (1, 2)]
        rows += [ours(options.env, steps, options.epochs) for steps in options.steps_per_epoch]
    rivals = [row["steps/s"] for row in rows if row["training"].startswith("OmniSafe")]
    if rivals:
        fastest = max(rivals)
        rows = [row | {"ratio to OmniSafe's best": row["steps/s"] / fastest} for row in rows]
    print(table(rows))
    save_results(options.out, "train", rows, env_id=options.env, epochs=options.epochs)
    return 0


def ours(env_id: str, steps_per_epoch: int, epochs: int) -> dict[str, Any]:
    """Steps per second of a KFCPO training after its first epoch."""
    config = TrainConfig(
        env_id=env_id,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * (WARM_UP_EPOCHS + epochs),
    )
    reports = list(train(config))[WARM_UP_EPOCHS:]
    rollout = float(np.median([report.rollout_seconds for report in reports]))
    update = float(np.median([report.update_seconds for report in reports]))
    speed = steps_per_epoch / (rollout + update)
    return {
        "training": f"KFCPO, {steps_per_epoch:,} steps per epoch",
        "steps/s": round(speed, 1),
        "share of update": round(update / (rollout + update), 3),
        "minutes for 10 million steps": round(TEN_MILLION / speed / 60, 1),
        "load": os.getloadavg()[0],
    }


def omnisafe(python: str, env_id: str, vector_envs: int) -> dict[str, Any]:
    """Steps per second of OmniSafe's CPO training, measured by its own script."""
    command = [python, str(OMNISAFE_SCRIPT), "--json", "--env-id", env_id]
    command += ["--vector-envs", str(vector_envs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    speed = json.loads(done.stdout)["steps_per_second"]
    return {
        "training": f"OmniSafe 0.5.0 CPO, {vector_envs} vector envs",
        "steps/s": speed,
        "minutes for 10 million steps": round(TEN_MILLION / speed / 60, 1),
        "load": os.getloadavg()[0],
    }
