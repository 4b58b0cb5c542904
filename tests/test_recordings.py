"""A stored run can be watched again: until any epoch, with its policies and what was turned."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import tiny

from kfcpo_lib.recordings import Change, Recording, find_runs
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train


def turned_run(folder: Path, **changes: float) -> TrainConfig:
    """Six epochs; lambda is turned after the second one, k and the limit after the fourth."""
    config = tiny(folder, **changes)
    knobs = config.knobs()
    for report in train(config, knobs):
        if report.epoch == 2:
            knobs.margin_lambda = 0.5
        if report.epoch == 4:
            knobs.steepness_k, knobs.cost_limit = 2.0, 10.0
    return config


@pytest.mark.parametrize(("warm_up", "halving"), [(0, 0), (700, 0), (0, 300), (700, 300)])
def test_turns_are_found_also_under_schedules(tmp_path: Path, warm_up: int, halving: int) -> None:
    turned_run(tmp_path, steepness_warmup=warm_up, kl_halving=halving)
    run = Recording.read(tmp_path)
    first, second, third = run.changes
    assert first == Change(400, "margin_lambda", 0.8, 0.5)
    assert {second.knob, third.knob} == {"steepness_k", "cost_limit"}
    assert second.env_steps == third.env_steps == 800
    assert run.until(3).changes == [first]
    assert run.until(2).changes == []


def test_what_a_margin_rate_moves_is_no_turn(tmp_path: Path) -> None:
    turned_run(tmp_path, margin_rate=0.1)
    run = Recording.read(tmp_path)
    assert run.progress["margin_lambda"].nunique() > 3
    assert run.changes[0].knob == "margin_lambda"
    assert {change.knob for change in run.changes[1:]} == {"steepness_k", "cost_limit"}
    assert run.changes[0].env_steps == 400
    assert run.changes[0].after - run.changes[0].before == pytest.approx(-0.3)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_lambda_that_nobody_turned_is_no_turn(tmp_path: Path, rate: float) -> None:
    list(train(tiny(tmp_path, margin_lambda=0.02, margin_rate=rate)))
    assert Recording.read(tmp_path).changes == []


def test_rounded_and_thinned_tables_show_no_turns_that_nobody_made(tmp_path: Path) -> None:
    list(train(tiny(tmp_path, margin_rate=0.1, steepness_warmup=700, kl_halving=300)))
    run = Recording.read(tmp_path)
    table = run.progress.to_csv(float_format="%.6g", index=False)
    rounded = replace(run, progress=pd.read_csv(StringIO(table)))
    assert not rounded.progress["margin_lambda"].equals(run.progress["margin_lambda"])
    assert rounded.changes == []
    assert replace(run, progress=run.progress.iloc[1::2]).changes == []


def test_a_run_until_some_epoch(tmp_path: Path) -> None:
    turned_run(tmp_path)
    run = Recording.read(tmp_path)
    assert (run.epochs, run.env_steps, run.policy) == (6, 1_200, "policy.pt")
    assert run.snapshots == {600: "snapshots/policy_000000600.pt", 1_200: "policy.pt"}
    early, middle = run.until(1), run.until(4)
    assert (early.epochs, early.policy) == (1, "snapshots/policy_000000600.pt")
    assert (middle.env_steps, middle.policy) == (800, "snapshots/policy_000000600.pt")
    assert set(middle.minibatches["epoch"]) == {1, 2, 3, 4}
    assert run.until(0).epochs == 1 and run.until(99).epochs == 6


def test_a_run_without_minibatches_or_policies(tmp_path: Path) -> None:
    list(train(tiny(tmp_path, policy_snapshots=0)))
    (tmp_path / "minibatches.csv").unlink()
    (tmp_path / "policy.pt").unlink()
    run = Recording.read(tmp_path)
    assert run.minibatches.empty and run.until(2).policy is None


def test_runs_are_found_by_name(tmp_path: Path) -> None:
    for name in ("tasks/car", "tasks/point", "other"):
        list(train(tiny(tmp_path / name, total_steps=200)))
    (tmp_path / "tasks" / "car" / "policy.pt").unlink()
    found = find_runs([tmp_path / "tasks", tmp_path / "other", tmp_path / "not there"])
    assert found == {
        "tasks/point": tmp_path / "tasks" / "point",
        "other": tmp_path / "other",
    }
    with pytest.raises(ValueError, match="is not a run"):
        Recording.read(tmp_path)
