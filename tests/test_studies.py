"""Stored runs: small, whole, and with the numbers of the run they were made of."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import EPOCH, files, tiny

import kfcpo_lib.evaluation
import kfcpo_lib.studies
from kfcpo_lib import train
from kfcpo_lib.evaluation import Evaluation, evaluate, store_evaluation, stored_evaluation
from kfcpo_lib.evidence import COUNTS, safety_numbers
from kfcpo_lib.runs import read_episodes, read_policy, read_progress, read_train_config
from kfcpo_lib.specs import read_spec
from kfcpo_lib.studies import (
    is_evaluated,
    learning_record,
    read_study,
    rules_of,
    runs_in,
    store_run,
    summary,
    thin,
)

EPOCHS, ROWS = 30, 20
SPECS, STORED = (Path(__file__).parents[1] / "figures" / name for name in ("specs", "runs"))


@pytest.fixture(autouse=True)
def fewer_rows_than_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfcpo_lib.studies, "ROWS", ROWS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "long_3"
    config = tiny(folder, total_steps=EPOCHS * EPOCH, seed=3, cost_limit=12.0)
    list(train(config))
    store_evaluation(folder, 3)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "long_3"))


def test_an_evaluation_is_stored_as_it_was_played(run: Path) -> None:
    for actions in ("sampled", "mean"):
        played, stored = evaluate(run, 3, actions), stored_evaluation(run, actions)
        np.testing.assert_array_equal(stored.returns, played.returns)
        np.testing.assert_array_equal(stored.costs, played.costs)
        assert str(stored) == str(played)
    assert is_evaluated(run, 3)
    assert not is_evaluated(run, 4)


def test_an_evaluation_of_an_earlier_policy_does_not_count(run: Path) -> None:
    table = pd.read_csv(run / "evaluation.csv")
    table.assign(env_steps=EPOCH).to_csv(run / "evaluation.csv", index=False)
    assert not is_evaluated(run)


def test_a_stored_run_is_small_and_has_the_same_numbers(run: Path, tmp_path: Path) -> None:
    stored = store_run(run, tmp_path / "study")
    assert stored == tmp_path / "study" / "long_3"
    assert set(files(stored)) == {"config.json", "evaluation.csv", "policy.pt", "progress.csv"}
    assert len(read_progress(stored)) == ROWS
    full, small = summary(run), summary(stored)
    assert small.keys() == full.keys()
    for name in ("algorithm", "seed", "env_steps", "sampled_return", "mean_cost", "violations"):
        assert small[name] == full[name]
    for name in ("epochs_within", "episodes_within", "training_cost", "excess"):
        assert small[name] == pytest.approx(full[name], rel=1e-4)
    assert read_policy(stored)["env_steps"] == EPOCHS * EPOCH


def test_safetys_numbers_are_those_of_the_episodes(run: Path) -> None:
    costs = read_episodes(run)["episode_cost"]
    row = summary(run)
    assert row["violations"] == (costs > 12).sum()
    assert row["episodes_within"] == pytest.approx((costs <= 12).mean())
    assert row["training_cost"] == pytest.approx(costs.mean())
    last = costs[read_episodes(run)["env_steps"] > 0.9 * EPOCHS * EPOCH]
    assert row["final_cost"] == pytest.approx(last.mean())


HAND_MADE = pd.DataFrame(
    {
        "epoch": range(6),
        "env_steps": [1_000, 2_000, 3_000, 3_500, 5_500, 6_000],
        "return_mean": [50.0, 40.0, 30.0, 20.0, 1.0, 4.0],
        "cost_weight": [0.9, 0.9, 0.9, 0.1, 0.5, 0.6],
        "rollbacks": [9, 9, 9, 0, 1, 2],
        "minibatches": [10, 10, 10, 10, 10, 80],
        "epochs": 1,
        "epochs_within": [0, 0, 1, 1, 1, 0],
        "episodes": [0, 4, 4, 4, 1, 3],
        "episodes_within": [0, 1, 4, 4, 1, 0],
        "cost_sum": [0.0, 80.0, 40.0, 40.0, 10.0, 60.0],
        "excess": [0.0, 8_000.0, 0.0, 0.0, 0.0, 4_000.0],
    }
)
"""Six epochs; three lie in the second half of the training, two in its last tenth."""


def test_every_number_of_a_summary_by_hand(run: Path) -> None:
    HAND_MADE.to_csv(run / "progress.csv", index=False)
    played = {
        "episode_return": [1.0, 2.0, 9.0, 5.0, 5.0, 8.0],
        "episode_cost": [12.0, 0.0, 30.0, 13.0, 14.0, 6.0],
    }
    table = pd.DataFrame({"actions": ["sampled"] * 3 + ["mean"] * 3, "env_steps": 6_000} | played)
    table.to_csv(run / "evaluation.csv", index=False)
    assert summary(run) == pytest.approx(
        {
            "algorithm": "kfcpo",
            "env_id": "PointMass-v0",
            "seed": 3,
            "cost_limit": 12.0,
            "env_steps": 6_000,
            "sampled_return": 4.0,  # the median is 2
            "sampled_cost": 14.0,
            "sampled_within": 2 / 3,  # at the limit is within it
            "mean_return": 6.0,
            "mean_cost": 11.0,
            "mean_within": 1 / 3,
            "final_return": 2.5,
            "final_cost": 70 / 4,  # an episode, not an epoch, is what is averaged
            "epochs_within": 3 / 6,
            "episodes_within": 10 / 16,
            "violations": 6,
            "training_cost": 230 / 16,
            "excess": 0.012,
            "rollback_share": 3 / 100,
            "cost_weight": 0.4,
            "weight_spread": np.sqrt(0.14 / 3),
        }
    )


@given(rows=st.integers(1, 40))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_thinning_keeps_sums_and_ends(rows: int, finished: Path) -> None:
    record = learning_record(finished)
    thinned = thin(record, rows)
    assert len(thinned) == min(rows, EPOCHS)
    np.testing.assert_allclose(thinned[list(COUNTS)].sum(), record[list(COUNTS)].sum())
    assert safety_numbers(thinned) == pytest.approx(safety_numbers(record))
    assert thinned["env_steps"].is_monotonic_increasing
    assert thinned["env_steps"].iloc[-1] == EPOCHS * EPOCH
    if rows >= EPOCHS:
        np.testing.assert_allclose(thinned, record)


def test_storing_evaluates_first_and_leaves_alone_what_is_there(run: Path, tmp_path: Path) -> None:
    (run / "evaluation.csv").unlink()
    stored = store_run(run, tmp_path / "study")
    assert len(stored_evaluation(stored).costs) == 100
    before = files(stored)
    with pytest.raises(FileExistsError, match=r"long_3 is there already"):
        store_run(run, tmp_path / "study")
    assert files(stored) == before
    assert runs_in(tmp_path / "study") == [stored]


def test_a_study_is_a_table_of_its_runs(run: Path, tmp_path: Path) -> None:
    store_run(run, tmp_path / "study")
    table = read_study(runs_in(tmp_path / "study"))
    assert table["run"].tolist() == ["long_3"]
    assert table["algorithm"].tolist() == ["kfcpo"]


def test_stored_runs_were_made_by_the_specs_of_today() -> None:
    """Of their settings only the folder and the threads may differ."""
    compared = 0
    for study in (
        "point_goal",
        "point_goal_long",
        "point_goal_rivals",
        "other_tasks",
        "car_button",
        "look_ahead",
        "look_ahead_looser",
        "like_budget",
    ):
        spec = {"like_budget": "like_budget_test"}.get(study, study)
        planned = {run.name: run.config for run in read_spec(SPECS / f"{spec}.toml").runs}
        for folder in runs_in(STORED / study):
            free = {"run_dir": None, "env_threads": None}
            assert read_train_config(folder, **free) == planned[folder.name], folder
            compared += 1
    assert compared >= 54


def test_a_summary_may_stop_earlier(run: Path) -> None:
    row = summary(run, until=15 * EPOCH)
    assert row["env_steps"] == 15 * EPOCH
    assert np.isnan(row["sampled_return"])
    episodes = read_episodes(run)
    early = episodes["episode_cost"][episodes["env_steps"] <= 15 * EPOCH]
    assert row["violations"] == (early > 12).sum()
    (run / "evaluation.csv").unlink()
    assert np.isnan(summary(run)["mean_cost"])
    with pytest.raises(ValueError, match=r"until must reach the first row of .*, got 10"):
        summary(run, until=10)


def test_a_rules_runs_are_those_of_the_first_study_that_has_it(run: Path, tmp_path: Path) -> None:
    for study, name in (("first", "a_0"), ("second", "b_0"), ("second", "b_1")):
        shutil.copytree(run, tmp_path / study / name)
    folders = [tmp_path / "absent", tmp_path / "first", tmp_path / "second"]
    found = [tmp_path / "first" / "a_0"]
    assert rules_of(folders, "PointMass-v0") == {"kfcpo": found}
    assert len(rules_of(folders[::-1], "PointMass-v0")["kfcpo"]) == 2
    assert rules_of(folders, "SafetyPointGoal1-v0") == {}


def test_what_is_missing_or_damaged_is_named(run: Path, tmp_path: Path) -> None:
    (run / "episodes.csv").unlink()
    with pytest.raises(ValueError, match=r"episodes.csv does not exist"):
        store_run(run, tmp_path / "study")
    (run / "evaluation.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not an evaluation"):
        stored_evaluation(run)
    with pytest.raises(ValueError, match="not an evaluation"):
        is_evaluated(run)
    row = "mean,1,0.0,0.0"
    (run / "evaluation.csv").write_text(f"actions,env_steps,episode_return,episode_cost\n{row}\n")
    assert len(stored_evaluation(run, "mean").costs) == 1
    with pytest.raises(ValueError, match="has not been evaluated with sampled actions"):
        stored_evaluation(run)
    with pytest.raises(ValueError, match="actions must be sampled or mean, got 'means'"):
        stored_evaluation(run, "means")
    assert not (tmp_path / "study" / "long_3").exists()


def test_an_end_without_a_whole_episode_is_not_a_cost_of_zero(run: Path) -> None:
    episodes = pd.read_csv(run / "episodes.csv")
    episodes[episodes["env_steps"] < EPOCHS * EPOCH / 2].to_csv(run / "episodes.csv", index=False)
    row = summary(run)
    assert np.isnan(row["final_cost"]) and row["training_cost"] > 0


def test_a_policy_that_changes_meanwhile_is_not_evaluated(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = iter([200, 400])
    monkeypatch.setattr(
        kfcpo_lib.evaluation, "read_policy", lambda *_: {"env_steps": next(trained)}
    )
    monkeypatch.setattr(
        kfcpo_lib.evaluation,
        "evaluate",
        lambda *_, **__: Evaluation("mean", 12.0, np.zeros(1), np.zeros(1)),
    )
    before = (run / "evaluation.csv").read_bytes()
    with pytest.raises(ValueError, match="is being trained: its policy changed"):
        store_evaluation(run, 1)
    assert (run / "evaluation.csv").read_bytes() == before


def test_a_run_without_a_whole_episode_has_no_violations(tmp_path: Path) -> None:
    list(train(tiny(tmp_path / "short", total_steps=200, stagger=False)))
    record = learning_record(tmp_path / "short")
    assert safety_numbers(record)["violations"] == 0
    assert np.isnan(safety_numbers(record)["episodes_within"])
