"""Studies: stored runs, small enough for the repository, and tables drawn from them.

A stored run is a run's folder with `config.json`, `policy.pt`, `evaluation.csv` and a thinned
`progress.csv` whose rows are blocks of epochs. It holds no checkpoint, so it cannot be resumed.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kfcpo_lib.evaluation import ACTIONS, store_evaluation, stored_evaluation
from kfcpo_lib.evidence import COUNTS, count_episodes, safety_numbers, share
from kfcpo_lib.runs import (
    read_config,
    read_episodes,
    read_evaluation,
    read_policy,
    read_progress,
    write_whole,
)

ROWS = 200
"""Rows of a thinned `progress.csv`."""
FINAL_SHARE = 0.1
"""Share of the training that counts as its end."""
LAST = ("epoch", "env_steps", "simulator_errors")
"""Columns of which a block keeps the last value; of the others, but for the counts, the mean."""


def learning_record(run: str | Path) -> pd.DataFrame:
    """`progress.csv` with the columns of `evidence.count_episodes`, of a full or a stored run.

    Raises:
        ValueError: if the run has no `progress.csv`, or lacks the episodes to count.
    """
    progress = read_progress(run)
    if set(COUNTS) <= set(progress):
        return progress
    if progress["return_mean"].isna().all():  # no whole episode has ended
        episodes = pd.DataFrame({"env_steps": [], "episode_cost": []})
    else:
        episodes = read_episodes(run)
    return progress.join(count_episodes(progress, episodes))


def thin(record: pd.DataFrame, rows: int) -> pd.DataFrame:
    """At most `rows` blocks of neighbouring epochs: counts are summed, the rest is averaged."""
    length = len(record)
    blocks = np.arange(length) * min(rows, length) // length
    ways: dict[Any, Any] = {
        name: "sum" if name in COUNTS else "last" if name in LAST else "mean" for name in record
    }
    return record.groupby(blocks).agg(ways)


def store_run(run: str | Path, study: str | Path) -> Path:
    """Keep a run in a study's folder, under its own name; evaluated first if it has not been.

    Returns:
        The stored run's folder. It appears in one piece.

    Raises:
        ValueError: if the run's files are damaged or missing.
        FileExistsError: if the study has a run of that name.
    """
    source, target = Path(run).resolve(), Path(study) / Path(run).resolve().name
    if target.exists():
        raise FileExistsError(f"{target} is there already: remove it to store the run again")
    if not is_evaluated(source):
        store_evaluation(source)
    scratch = target.with_name(f".{target.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in ("config.json", "policy.pt", "evaluation.csv"):
        shutil.copyfile(source / name, scratch / name)
    table = thin(learning_record(source), ROWS).to_csv(index=False, float_format="%.6g")
    write_whole(scratch / "progress.csv", table.encode())
    return scratch.rename(target)


def is_evaluated(run: str | Path, episodes: int = 1) -> bool:
    """Whether `evaluation.csv` judges the run's present policy by so many episodes of each kind."""
    if not (Path(run) / "evaluation.csv").exists():
        return False
    table = read_evaluation(run)
    present = table[table["env_steps"] == read_policy(run)["env_steps"]]
    return all((present["actions"] == actions).sum() >= episodes for actions in ACTIONS)


def summary(run: str | Path, until: int | None = None) -> dict[str, Any]:
    """One run's row of results: what it is, its final scores, and what learning cost.

    Args:
        run: a full or a stored run.
        until: look at its first so many steps only; None: all.

    Returns:
        `sampled_return`, `sampled_cost`, `sampled_within` (share of the episodes within the limit
        in `config.json`; training is judged by the limit of each epoch) and the same for mean
        actions, of the stored evaluation (NaN without one, or with `until`);
        `final_return` and `final_cost`, means over the last tenth of the training; and
        `evidence.safety_numbers`. Over the second half of the training: `rollback_share` of the
        steps that were undone, and the weight's mean and standard deviation over the rows of
        `progress.csv`, `cost_weight` and `weight_spread`: of a stored run these are blocks of
        epochs, which vary less than epochs do.

    Raises:
        ValueError: if `until` is before the first row of `progress.csv`.
    """
    settings, record = read_config(run)["settings"], learning_record(run)
    if until is not None:
        record = record[record["env_steps"] <= until]
        if record.empty:
            raise ValueError(f"until must reach the first row of {run}, got {until!r}")
    chosen = ("algorithm", "env_id", "seed", "cost_limit")
    row = {name: settings[name] for name in chosen} | {"env_steps": record["env_steps"].iloc[-1]}
    for actions in ACTIONS:
        row |= _evaluation_scores(run, actions, known=until is None and is_evaluated(run))
    last = record[record["env_steps"] > (1 - FINAL_SHARE) * record["env_steps"].iloc[-1]]
    row["final_return"] = last["return_mean"].mean()
    row["final_cost"] = share(last["cost_sum"].sum(), last["episodes"].sum())
    return row | safety_numbers(record) | _update_numbers(record)


def _update_numbers(record: pd.DataFrame) -> dict[str, float]:
    late = record[record["env_steps"] > record["env_steps"].iloc[-1] / 2]
    return {
        "rollback_share": share(late["rollbacks"].sum(), late["minibatches"].sum()),
        "cost_weight": late["cost_weight"].mean(),
        "weight_spread": late["cost_weight"].std(ddof=0),
    }


def _evaluation_scores(run: str | Path, actions: str, known: bool) -> dict[str, float]:
    names = (f"{actions}_return", f"{actions}_cost", f"{actions}_within")
    if not known:
        return dict.fromkeys(names, np.nan)
    result = stored_evaluation(run, actions)
    return dict(
        zip(names, (result.returns.mean(), result.costs.mean(), result.within_limit), strict=True)
    )


def read_study(runs: Iterable[str | Path], until: int | None = None) -> pd.DataFrame:
    """A row of `summary` for every run, under its folder's name."""
    rows = [{"run": Path(run).name} | summary(run, until) for run in runs]
    return pd.DataFrame(rows)


def runs_in(folder: str | Path) -> list[Path]:
    """The run folders in a study's folder, in the order of their names."""
    return sorted(path.parent for path in Path(folder).glob("*/config.json"))


def rules_of(folders: Iterable[str | Path], env_id: str) -> dict[str, list[Path]]:
    """Update rule -> its runs on a task, from the first of the folders that has the rule."""
    rules: dict[str, list[Path]] = {}
    for folder in folders:
        found: dict[str, list[Path]] = {}
        for run in runs_in(folder):
            settings = read_config(run)["settings"]
            if settings["env_id"] == env_id:
                found.setdefault(settings["algorithm"], []).append(run)
        rules = found | rules
    return rules
