"""KFCPO on the point-mass world with one part taken away at a time: the stored runs of notebook 07.

`python -m kfcpo_lib.benchmarks.parts` makes the runs that are missing under `figures/runs/parts`,
under a minute each: `config.json` and `progress.csv`, no checkpoint. `--out`, `--parts`, `--seeds`
and `--steps` make others.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import RunWriter, read_progress
from kfcpo_lib.training import Training, one_torch_thread, run_epoch

WORLD: dict[str, Any] = {
    "env_id": "PointMass-v0",
    "cost_limit": 10.0,
    "num_envs": 50,
    "steps_per_epoch": 10_000,
    "kl_limit": 0.02,
    "critic_passes": 4,
    "rule": {"minibatch_size": 1_000, "damping": 0.01},
}
PARTS: dict[str, Mapping[str, Any]] = {
    "full": {},
    "no_projection": {"rule": {"conflict": "none"}},
    "no_blending": {"steepness_k": 1_000.0},
    "no_rollback": {"rule": {"rollback": "none"}},
    "no_rollback_fixed_delta": {"rule": {"rollback": "none", "adaptive_delta": False}},
    "conjugate_gradient": {"rule": {"natural_gradient": "cg"}},
    "plain_gradient": {},
}
"""What differs from `WORLD`. `plain_gradient` moreover has the identity for its Fisher matrix."""
STORED = Path(__file__).parents[2] / "figures" / "runs" / "parts"
KEPT = ("config.json", "progress.csv")


class PlainGradient:
    """A Fisher metric that knows nothing: the identity, so that natural gradients are plain ones.

    delta is then half the squared length of a step; it still adapts to the KL limit.
    """

    def update_factors(self, obs: Tensor) -> None:
        """Nothing to look at."""

    def precondition(self, grads: Tensor) -> Tensor:
        """[P] the gradient as it is."""
        return grads

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """Scalar dot product."""
        return u @ v

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


def config_of(part: str, seed: int, total_steps: int) -> TrainConfig:
    """The configuration of one run."""
    changes = dict(PARTS[part])
    rule = WORLD["rule"] | changes.pop("rule", {})
    return TrainConfig(**WORLD | changes | {"rule": rule, "seed": seed, "total_steps": total_steps})


def make_run(part: str, config: TrainConfig, folder: Path) -> None:
    """Train without the part and keep the tables."""
    with one_torch_thread():
        training = Training.start(config)
        if part == "plain_gradient":
            training.rule_state.fisher = PlainGradient()
        scratch = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        config = replace(config, run_dir=str(scratch))
        with closing(RunWriter.open(config, resume=False)) as writer:
            writer.begin(config)
            for _ in range(config.epochs):
                writer.append(run_epoch(config, config.knobs(), training))
    for file in scratch.iterdir():
        if file.name not in KEPT:
            file.unlink()
    scratch.rename(folder)


def read_parts(folder: str | Path = STORED) -> dict[str, list[pd.DataFrame]]:
    """The tables of the stored runs, one per seed: part that was taken away -> tables."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for part in PARTS:
        runs = sorted(Path(folder).glob(f"{part}_[0-9]"))
        tables[part] = [read_progress(run) for run in runs]
    return tables


def main(words: Sequence[str] | None = None) -> int:
    """Make the runs that are missing."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib.benchmarks.parts")
    parser.add_argument("--out", type=Path, default=STORED)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300_000)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [(part, seed) for seed in range(options.seeds) for part in options.parts]
    for part, seed in tqdm(runs, unit="run"):
        folder = options.out / f"{part}_{seed}"
        if not folder.exists():
            make_run(part, config_of(part, seed, options.steps), folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
