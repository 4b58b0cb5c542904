"""What a sweep is to train: a TOML file with seeds, settings, a grid, and named configurations.

    seeds = [0, 1, 2]
    evaluation_episodes = 100           # after each training; 100 if left out

    [common]                            # settings of every run: fields of TrainConfig
    env_id = "SafetyPointGoal1-v0"
    rule.damping = 0.01

    [grid]                              # every combination of these values ...
    margin_lambda = [0.5, 0.7]

    [configurations.kfcpo]              # ... with each of these, and each seed
    [configurations.trpo_lag]
    algorithm = "trpo_lag"
    grid.rule.damping = [0.1, 1.0]      # a grid of this configuration alone

What a configuration says goes before what `common` says. A run is named after its configuration,
its place in the grid and its seed: `kfcpo_margin_lambda=0.5_0`.
"""

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import check_config

KEYS = ("seeds", "evaluation_episodes", "common", "grid", "configurations")
SETTINGS = tuple(f.name for f in fields(TrainConfig) if f.name not in ("seed", "run_dir", "rule"))
NAME = re.compile(r"[\w.=+-]{1,100}", re.ASCII)


@dataclass(frozen=True)
class PlannedRun:
    """One training of a sweep."""

    name: str
    """Name of its folder."""
    configuration: str
    choices: Mapping[str, Any]
    """Its place in the grid: setting -> value."""
    config: TrainConfig
    """Without a folder."""


@dataclass(frozen=True)
class Spec:
    """What a sweep is to train."""

    runs: tuple[PlannedRun, ...]
    evaluation_episodes: int


def read_spec(path: str | Path) -> Spec:
    """The sweep that a file asks for.

    Raises:
        ValueError: names the file, what is wrong in it, and what is allowed.
        OSError: if it cannot be read.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as TOML: {error}") from error
    try:
        return plan(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def plan(content: Mapping[str, Any]) -> Spec:
    """The runs of a spec: configurations x grid x seeds, every one of them checked.

    All runs of a seed come before those of the next, so that a part of a sweep compares alike.

    Raises:
        ValueError: names what is wrong, and what is allowed.
    """
    _check_names(content, KEYS, "a spec")
    common = _settings(content, "common")
    configurations = _configurations(content)
    runs = tuple(
        _planned(name, common | settings, dict(zip(grid, values, strict=True)), seed)
        for seed in _seeds(content)
        for name, (settings, grid) in configurations.items()
        for values in itertools.product(*grid.values())
    )
    _check_run_names(run.name for run in runs)
    episodes = content.get("evaluation_episodes", 100)
    if type(episodes) is not int or episodes < 1:
        raise ValueError(f"evaluation_episodes must be an integer of at least 1, got {episodes!r}")
    return Spec(runs, episodes)


def _seeds(content: Mapping[str, Any]) -> Sequence[int]:
    seeds = content.get("seeds")
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds must be a list of at least one seed, got {seeds!r}")
    return seeds


def _configurations(
    content: Mapping[str, Any],
) -> dict[str, tuple[dict[str, Any], dict[str, list[Any]]]]:
    """Name -> settings and grid; one without a change if there are none."""
    tables = _table(content, "configurations") or {"run": {}}
    return {name: _configuration(content, name, _table(tables, name)) for name in tables}


def _configuration(
    content: Mapping[str, Any], name: str, table: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A configuration's settings, and the grid of all with its own."""
    plain = {setting: value for setting, value in table.items() if setting != "grid"}
    settings, place = _settings({name: plain}, name), f"configurations.{name}"
    shared, own = _grid(content), _grid(table, f"{place}.grid")
    for grid, where in ((shared, "grid"), (own, f"{place}.grid")):
        both = [setting for setting in grid if setting in settings]
        if both:
            raise ValueError(f"{', '.join(both)} stands in [{where}] and in [{place}]")
    return settings, shared | own


def _grid(content: Mapping[str, Any], place: str = "grid") -> dict[str, list[Any]]:
    """Setting -> its values, of the grid of a spec or of a configuration."""
    grid = _settings(content, "grid", place)
    for setting, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{setting} in [{place}] must be a list of values, got {values!r}")
    return grid


def grid_names(content: Mapping[str, Any]) -> list[str]:
    """The settings in the grid of a spec, and in those of its configurations."""
    tables = _table(content, "configurations")
    grids = [_grid(content), *(_grid(_table(tables, name)) for name in tables)]
    return list(dict.fromkeys(name for grid in grids for name in grid))


def _settings(content: Mapping[str, Any], name: str, place: str = "") -> dict[str, Any]:
    """A table of settings, flat: `rule = {damping = 0.1}` becomes `rule.damping`."""
    table = _table(content, name, place)
    rule = _table(table, "rule")
    plain = {setting: value for setting, value in table.items() if setting != "rule"}
    _check_names(plain, (*SETTINGS, "rule"), f"[{place or name}]")
    return plain | {f"rule.{setting}": value for setting, value in rule.items()}


def _table(content: Mapping[str, Any], name: str, place: str = "") -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{place or name} must be a table, got {table!r}")
    return table


def _check_names(given: Iterable[str], known: Sequence[str], place: str) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{place} has no {', '.join(unknown)}; it may have {', '.join(known)}")


def _planned(
    configuration: str, settings: Mapping[str, Any], choices: Mapping[str, Any], seed: Any
) -> PlannedRun:
    together = {**settings, **choices}
    rule = {name[5:]: value for name, value in together.items() if name.startswith("rule.")}
    plain = {name: value for name, value in together.items() if not name.startswith("rule.")}
    name = "_".join([configuration, *map(_choice_name, choices.items()), str(seed)])
    try:
        config = TrainConfig(**plain, rule=rule, seed=seed)
        check_config(config)
    except ValueError as error:
        raise ValueError(f"run {name!r}: {error}") from error
    return PlannedRun(name, configuration, choices, config)


def _choice_name(choice: tuple[str, Any]) -> str:
    setting, value = choice
    words = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{setting.removeprefix('rule.')}={words}"


def _check_run_names(names: Iterable[str]) -> None:
    """Names must do as folders, on drives too that do not tell capitals from small letters."""
    counts = Counter(name.lower() for name in names)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"{count} runs would share the name {name!r}")
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a run's name: up to 100 letters, digits and _ . = + - can"
            )
