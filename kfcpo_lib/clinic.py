"""The patients of notebook 11: point-mass trainings that have one thing wrong with them.

Most of them learnt soundly in their youth, and fall ill at a known epoch; so what changes there is
the fault's doing. Those with `born_ill` have their fault from the first step.

`python -m kfcpo_lib.clinic` makes the long runs that are missing under `figures/runs/clinic`.
"""

import argparse
import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from kfcpo_lib.faults import swapped
from kfcpo_lib.records import EpochReport, TrainConfig
from kfcpo_lib.runs import RunWriter, read_progress
from kfcpo_lib.training import Training, one_torch_thread, run_epoch

YOUTH = 16
"""Epochs before the fault."""
WORLD: dict[str, Any] = {
    "algorithm": "kfcpo",
    "env_id": "PointMass-v0",
    "num_envs": 20,
    "steps_per_epoch": 4_000,
    "cost_limit": 20.0,
    "margin_lambda": 0.8,
    "steepness_k": 0.2,
    "kl_limit": 0.03,
    "hidden_sizes": (32, 32),
    "critic_passes": 2,
    "critic_minibatch": 500,
}
RULE: dict[str, Any] = {
    "minibatch_size": 500,
    "delta_start": 1e-3,
    "adaptive_delta": True,
    "damping": 1e-2,
    "factor_decay": 0.9,
    "conflict": "project_cost",
    "metric": "fisher",
    "full_length": True,
}
"""The settings of all patients, but for what their records say."""


@dataclass(frozen=True)
class Patient:
    """What is wrong: settings of the training or the rule, or a function of `faults`."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None
    born_ill: bool = False


PATIENTS: dict[str, Patient] = {
    "healthy": Patient(),
    "weak_k": Patient({"steepness_k": 0.01, "cost_limit": 10.0}),
    "steep_k": Patient({"steepness_k": 10.0, "episodic_cost_window": 20}),
    "low_lambda": Patient({"margin_lambda": 0.05}),
    "long_steps": Patient(
        {"kl_limit": 0.002}, {"adaptive_delta": False, "delta_start": 0.02}, born_ill=True
    ),
    "no_damping": Patient(rule={"damping": 0.0}, born_ill=True),
    "flipped_cost_sign": Patient(fault="flipped_cost_sign"),
    "broadcast_product": Patient(fault="broadcast_product", born_ill=True),
    "swapped_weights": Patient(fault="swapped_weights"),
    "aliased_snapshot": Patient(fault="aliased_snapshot", born_ill=True),
    "one_critic_twice": Patient(fault="one_critic_twice"),
    "decomposed_once": Patient(fault="decomposed_once", born_ill=True),
    "truncation_as_end": Patient(fault="truncation_as_end"),
}
"""One without a fault, five with bad settings, seven with a silent bug."""
LABS: dict[int, str] = dict(
    enumerate(
        (
            *("flipped_cost_sign", "broadcast_product", "swapped_weights", "aliased_snapshot"),
            *("one_critic_twice", "no_damping", "decomposed_once", "truncation_as_end"),
        ),
        start=1,
    )
)
"""The patient of each lab, whom the notebook calls by number until its illness is revealed."""
STORED = Path(__file__).parents[1] / "figures" / "runs" / "clinic"
KEPT = ("config.json", "progress.csv")


def config_of(patient: Patient, seed: int = 0, epochs: int = 1) -> TrainConfig:
    """The whole configuration of a patient's training."""
    settings = WORLD | dict(patient.changes) | {"rule": RULE | dict(patient.rule)}
    steps = epochs * WORLD["steps_per_epoch"]
    return TrainConfig(**settings, seed=seed, total_steps=steps)


def grow_up(seed: int = 0, epochs: int = YOUTH) -> tuple[list[EpochReport], dict[str, Any]]:
    """A sound youth: its reports, and the state of the training at its end."""
    training = Training.start(config_of(PATIENTS["healthy"], seed))
    reports = live_on(training, config_of(PATIENTS["healthy"], seed), epochs)
    return reports, training.state_dict()


def admit(
    patient: Patient,
    state: Mapping[str, Any] | None,
    epochs: int,
    mended: Callable[..., Any] | None = None,
    seed: int = 0,
) -> list[EpochReport]:
    """Train on with the patient's fault, from a youth's state or, `born_ill`, from the start.

    Args:
        patient: one of `PATIENTS`, or another.
        state: of `grow_up`; left as it is.
        epochs: how many to watch.
        mended: a function to use where the fault's wrong one would stand.
    """
    config = config_of(patient, seed)
    training = Training.start(config)
    if state is not None and not patient.born_ill:
        training.load_state_dict(copy.deepcopy(dict(state)))
    with swapped(patient.fault, mended) if patient.fault else nullcontext():
        return live_on(training, config, epochs)


def treated(name: str, settings: Mapping[str, Any]) -> Patient:
    """A patient with some settings changed; those of the update rule among them."""
    patient = PATIENTS[name]
    rule = {key: settings[key] for key in settings if key in RULE}
    changes = {key: settings[key] for key in settings if key not in RULE}
    return replace(patient, changes={**patient.changes, **changes}, rule={**patient.rule, **rule})


def live_on(training: Training, config: TrainConfig, epochs: int) -> list[EpochReport]:
    """Some more epochs of a training."""
    with one_torch_thread():
        return [run_epoch(config, config.knobs(), training) for _ in range(epochs)]


def table(reports: Sequence[EpochReport]) -> pd.DataFrame:
    """The reports as their `progress.csv` would have them."""
    return pd.DataFrame([report.row() for report in reports])


def agree(some: Sequence[EpochReport], others: Sequence[EpochReport]) -> bool:
    """Whether two trainings took the same trial steps, to three digits, as far as both go."""
    return all(
        np.allclose(_trials(a), _trials(b), rtol=1e-3, equal_nan=True)
        for a, b in zip(some, others, strict=False)
    )


def _trials(report: EpochReport) -> list[tuple[float, ...]]:
    return [(t.kl, t.delta, t.cosine, float(t.committed)) for t in report.details]


def read_stored(folder: str | Path = STORED) -> dict[str, pd.DataFrame]:
    """The tables of the stored long runs: patient -> table."""
    found = (name for name in PATIENTS if (Path(folder) / name).is_dir())
    return {name: read_progress(Path(folder) / name) for name in found}


def make_run(name: str, seed: int, epochs: int, folder: Path) -> None:
    """Train one patient with its fault from the first step, and keep the tables."""
    scratch = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    config = replace(config_of(PATIENTS[name], seed, epochs), run_dir=str(scratch))
    reports = admit(PATIENTS[name], None, epochs, seed=seed)
    with closing(RunWriter.open(config, resume=False)) as writer:
        writer.begin(config)
        for report in reports:
            writer.append(report)
    for file in scratch.iterdir():
        if file.name not in KEPT:
            file.unlink()
    scratch.rename(folder)


def main(words: Sequence[str] | None = None) -> int:
    """Make the runs that are missing."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib.clinic")
    parser.add_argument("--out", type=Path, default=STORED)
    parser.add_argument("--patients", nargs="+", default=list(PATIENTS), choices=list(PATIENTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in tqdm(options.patients, unit="run"):
        if not (options.out / name).exists():
            make_run(name, options.seed, options.epochs, options.out / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
