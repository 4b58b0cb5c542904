"""KFCPO beyond small MLPs on plain numbers: the stored runs of notebook 12.

`python -m kfcpo_lib.benchmarks.frontier` makes the runs that are missing under
`figures/runs/frontier`, minutes each on one core: `config.json`, `progress.csv` and `policy.pt`.
`--out`, `--runs`, `--seed` and `--steps` make others.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import read_progress
from kfcpo_lib.training import train

TOY: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "cost_limit": 25.0,
    "kl_limit": 0.05,
    "num_envs": 50,
    "steps_per_epoch": 5_000,
    "total_steps": 150_000,
    "hidden_sizes": (32, 32),
    "critic_passes": 3,
    "critic_minibatch": 500,
    "rule": {"minibatch_size": 1_000, "delta_start": 2e-3},
}
"""Fast rather than good: a wide KL limit and small epochs show something within 150,000 steps."""
CHEETAH: dict[str, Any] = {
    "env_id": "ControlCostHalfCheetah-v4",
    "cost_limit": 250.0,
    "steepness_k": 0.03,
    "kl_limit": 0.02,
    "num_envs": 10,
    "total_steps": 300_000,
    "hidden_sizes": (64, 64),
    "episodic_cost_window": 10,
}
RUNS: dict[str, Mapping[str, Any]] = {
    "numbers_mlp": {},
    "pixels_cnn": {"env_id": "PointMassPixels-v0", "network": "cnn"},
    "flicker_gru": {"env_id": "PointMassFlickerWindow-v0", "network": "gru"},
    "flicker_now": {"env_id": "PointMassFlicker-v0"},
    "cheetah": CHEETAH,
    "cheetah_free": CHEETAH | {"cost_limit": 1_000.0},  # no episode can cost more
}
"""What differs from `TOY`."""
STORED = Path(__file__).parents[2] / "figures" / "runs" / "frontier"
KEPT = ("config.json", "progress.csv", "policy.pt")


def config_of(name: str, **changes: Any) -> TrainConfig:
    """The configuration of one run, or of a shorter or longer one like it."""
    return TrainConfig(**TOY | dict(RUNS[name]) | changes)


def make_run(config: TrainConfig, folder: Path) -> None:
    """Train, and keep what the notebook reads."""
    scratch = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    for _ in train(TrainConfig(**vars(config) | {"run_dir": str(scratch), "policy_snapshots": 0})):
        pass
    for file in scratch.iterdir():
        if file.name not in KEPT:
            file.unlink()
    scratch.rename(folder)


def read_run(name: str, folder: str | Path = STORED) -> pd.DataFrame:
    """The table of one stored run, a row an epoch."""
    return read_progress(Path(folder) / name)


def main(words: Sequence[str] | None = None) -> int:
    """Make the runs that are missing."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib.benchmarks.frontier")
    parser.add_argument("--out", type=Path, default=STORED)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="default: each run's own")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    changes = {} if options.steps is None else {"total_steps": options.steps}
    for name in tqdm(options.runs, unit="run"):
        if not (options.out / name).exists():
            config = config_of(name, seed=options.seed, **changes)
            make_run(config, options.out / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
