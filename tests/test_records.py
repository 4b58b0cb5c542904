"""Settings are refused where they are made, by name and value; reports have fixed columns."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import tiny

from kfcpo_lib import Knobs, TrainConfig, train
from kfcpo_lib.evaluation import EVALUATION_SEED
from kfcpo_lib.records import config_to_dict
from kfcpo_lib.training import SEEDS_PER_RUN

NAN, INF = math.nan, math.inf
REFUSED = [
    ("margin_lambda", 0, "in (0, 1]"),
    ("margin_lambda", 1.0001, "in (0, 1]"),
    ("margin_lambda", -0.5, "in (0, 1]"),
    ("margin_lambda", NAN, "in (0, 1]"),
    ("margin_lambda", "0.5", "in (0, 1]"),
    ("cost_gae_warmup", -1, "at least 0"),
    ("margin_rate", -0.1, "at least 0"),
    ("limit_share", 0, "in (0, 1]"),
    ("limit_share", 1.5, "in (0, 1]"),
    ("steepness_k", 0, "a positive finite number"),
    ("steepness_k", -0.3, "a positive finite number"),
    ("steepness_k", INF, "a positive finite number"),
    ("cost_limit", 0, "a positive finite number"),
    ("cost_limit", -25, "a positive finite number"),
    ("cost_limit", NAN, "a positive finite number"),
    ("kl_limit", 0, "a positive finite number"),
    ("kl_limit", -0.01, "a positive finite number"),
    ("kl_limit", INF, "a positive finite number"),
    ("kl_limit", True, "a positive finite number"),
    ("discount", 1, "in [0, 1)"),
    ("discount", NAN, "in [0, 1)"),
    ("gae_lambda", 1.1, "in [0, 1]"),
    ("cost_gae_lambda", -0.1, "in [0, 1]"),
    ("log_std_start", NAN, "a finite number"),
    ("critic_learning_rate", 0, "a positive finite number"),
    ("seed", -1, "at least 0"),
    ("seed", 200_000, "at most 199999"),
    ("seed", 1.0, "an integer"),
    ("seed", None, "an integer"),
    ("total_steps", 0, "at least 1"),
    ("total_steps", 1e6, "an integer"),
    ("steps_per_epoch", 0, "at least 1"),
    ("num_envs", 0, "at least 1"),
    ("num_envs", 10_001, "at most 10000"),
    ("num_envs", 3, "multiple of num_envs"),
    ("critic_passes", 0, "at least 1"),
    ("critic_minibatch", 0, "at least 1"),
    ("episodic_cost_window", 0, "at least 1"),
    ("policy_snapshots", -1, "at least 0"),
    ("env_threads", 0, "at least 1"),
    ("stagger", "no", "True, False or None"),
    ("hidden_sizes", (8, 0), "at least 1"),
    ("hidden_sizes", 64, "a tuple of integers"),
    ("hidden_sizes", "64", "a tuple of integers"),
    ("rule", None, "a mapping"),
    ("rule", {"damping": NAN}, "a finite number"),
    ("rule", {"damping": [0.1]}, "a finite number"),
    ("env_id", 5, "a word"),
    ("algorithm", None, "a word"),
    ("device", "", "a word"),
    ("run_dir", "", "a word"),
    ("run_dir", 5, "a word"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_config_refuses_bad_settings_by_name_value_and_what_is_allowed(
    name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        TrainConfig(**{name: value})
    message = str(refusal.value)
    shown = next(iter(value.values())) if isinstance(value, dict) else value
    shown = 0 if value == (8, 0) else shown
    assert repr(shown) in message
    assert allowed in message
    assert (name if name != "rule" else "") in message


@pytest.mark.parametrize("setting", ["margin_lambda", "steepness_k", "kl_limit", "cost_limit"])
@pytest.mark.parametrize("value", [0, -1, NAN, INF, "1", None, True])
def test_knobs_refuse_what_the_config_refuses_and_keep_their_position(
    setting: str, value: Any
) -> None:
    knobs = Knobs()
    before = vars(knobs).copy()
    with pytest.raises(ValueError, match=setting):
        setattr(knobs, setting, value)
    assert vars(knobs) == before


def test_a_misspelt_knob_is_refused_and_names_the_real_ones() -> None:
    with pytest.raises(AttributeError, match=r"'lambda_'.*margin_lambda, steepness_k"):
        Knobs().lambda_ = 0.5  # type: ignore[attr-defined]


def test_knobs_start_where_the_config_stands() -> None:
    config = tiny(margin_lambda=0.5, steepness_k=2, kl_limit=0.02, cost_limit=10)
    assert vars(config.knobs()) == {
        "margin_lambda": 0.5, "steepness_k": 2.0, "kl_limit": 0.02, "cost_limit": 10.0,
    }  # fmt: skip
    assert vars(Knobs()) == vars(TrainConfig().knobs())


def test_numpy_numbers_and_paths_become_plain_values(tmp_path: Path) -> None:
    config = tiny(
        tmp_path,
        seed=np.int64(3),
        kl_limit=np.float32(0.5),
        hidden_sizes=[np.int32(8)],
        rule={"damping": np.float64(0.25), "minibatch_size": np.int64(100)},
    )
    settings = config_to_dict(config)
    assert json.loads(json.dumps(settings)) == settings
    values = [*settings.values(), *settings["rule"].values(), *settings["hidden_sizes"]]
    assert {type(value) for value in values} <= {int, float, str, bool, dict, list, type(None)}
    assert settings["run_dir"] == str(tmp_path)


def test_steps_are_rounded_up_to_whole_epochs() -> None:
    assert [tiny(total_steps=steps).epochs for steps in (1, 200, 201, 400)] == [1, 1, 2, 2]
    assert tiny(total_steps=200 * 10**30 + 1).epochs == 10**30 + 1


def test_seeds_of_evaluations_lie_beyond_those_of_every_training() -> None:
    highest_seed = TrainConfig(seed=199_999).seed
    assert SEEDS_PER_RUN * highest_seed + SEEDS_PER_RUN - 1 < EVALUATION_SEED
    assert TrainConfig(num_envs=SEEDS_PER_RUN).num_envs == SEEDS_PER_RUN  # the most there can be


COLUMNS = [
    "epoch", "env_steps", "return_mean", "episodic_cost_mean", "cost_weight", "margin_lambda",
    "steepness_k", "kl_limit", "cost_limit", "kl", "rollbacks", "minibatches", "conflict_rate",
    "conflict_cosine", "delta", "policy_std", "value_loss_reward", "value_loss_cost", "nonfinite",
    "simulator_errors", "rollout_seconds", "update_seconds", "steps_per_second",
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "own"), [("kfcpo", []), ("trpo_lag", ["multiplier"])])
def test_a_report_has_the_documented_columns_and_then_the_rules_own(
    algorithm: str, own: list[str]
) -> None:
    config = tiny(algorithm=algorithm, total_steps=200, rule={})
    row = next(train(config)).row()
    assert list(row)[: len(COLUMNS)] == COLUMNS
    assert set(own) <= set(list(row)[len(COLUMNS) :])
    assert own or len(row) == len(COLUMNS)
    assert all(isinstance(value, int | float) for value in row.values())


def test_a_report_counts_what_its_minibatches_say() -> None:
    reports = list(train(tiny(kl_limit=3e-4)))
    assert any(0 < report.rollbacks < report.minibatches for report in reports)
    for report in reports:
        assert report.minibatches == len(report.details) == 2
        assert report.rollbacks == sum(not m.committed for m in report.details)
        assert report.conflict_rate == np.mean([m.cosine < 0 for m in report.details])
        assert report.conflict_cosine == pytest.approx(np.mean([m.cosine for m in report.details]))
        assert report.delta == report.details[-1].delta
    assert [report.env_steps for report in reports] == [200, 400, 600, 800, 1000, 1200]
    assert torch.get_default_dtype() == torch.float32
