"""`diagnose` names what ails a run: on short real runs with one fault each, at its boundaries, and
on folders that hold no run. Healthy runs are left in peace."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import tiny

from kfcpo_lib import diagnose, diagnosis, train
from kfcpo_lib.__main__ import main
from kfcpo_lib.algorithms import RULES
from kfcpo_lib.benchmarks import parts
from kfcpo_lib.blending import margin_weights
from kfcpo_lib.diagnosis import (
    COST_ABOVE,
    KEEP_THE_LAST_PASS,
    KL_BEYOND,
    NOT_FINITE,
    ONE_LINE,
    OSCILLATING,
    STALLED,
    SUPPRESSED,
    WRONG_WEIGHT,
)
from kfcpo_lib.faults import swapped
from kfcpo_lib.studies import thin


def healthy(epochs: int = 12, **changes: Any) -> pd.DataFrame:
    """A table of a run that rests just below its margin centre, with some columns changed.

    The weight follows from the cost unless it is given.
    """
    wave = np.tile([0.5, -0.5], epochs)[:epochs]
    columns: dict[str, Any] = {
        "epoch": np.arange(1, epochs + 1),
        "env_steps": 4_000 * np.arange(1, epochs + 1),
        "return_mean": np.linspace(0.0, 5.0, epochs),
        "episodic_cost_mean": 15.0 + wave,
        "margin_lambda": 0.8,
        "steepness_k": 0.3,
        "kl_limit": 0.02,
        "cost_limit": 20.0,
        "kl": 0.018,
        "rollbacks": 1,
        "minibatches": 8,
        "conflict_cosine": -0.2,
        "delta": 5e-4 + 1e-5 * wave,
        "nonfinite": 0,
    } | changes
    table = pd.DataFrame(columns)
    if "cost_weight" not in table:
        table["cost_weight"] = [weight_of(row) for _, row in table.iterrows()]
    return table


def weight_of(row: Any) -> float:
    if not np.isfinite(row.episodic_cost_mean):
        return 0.5
    names = ("episodic_cost_mean", "cost_limit", "margin_lambda", "steepness_k")
    return margin_weights(*(float(row[name]) for name in names))[1]


def falling(start: float, end: float) -> Any:
    return np.linspace(start, end, 12)


# ------------------------------------------------------------------------------- synthetic tables


def test_healthy_tables_are_left_in_peace() -> None:
    assert str(diagnose(healthy())) == "nothing wrong seen in the last 4 epochs"
    assert diagnose(healthy(epochs=6)).signatures == []


CASES = [
    (COST_ABOVE, {"episodic_cost_mean": 22.1}, {"episodic_cost_mean": 21.9}),
    (STALLED, {"rollbacks": 4}, {"rollbacks": 3}),
    (STALLED, {"delta": 3.9e-5}, {"delta": 4.1e-5}),
    (OSCILLATING, {"cost_weight": [0.73, 0.27] * 6}, {"cost_weight": [0.72, 0.28] * 6}),
    (
        SUPPRESSED,
        {"episodic_cost_mean": 11.9, "margin_lambda": 0.5},
        {"episodic_cost_mean": 12.1, "margin_lambda": 0.5},
    ),
    (
        SUPPRESSED,
        {"episodic_cost_mean": 8.0, "steepness_k": 0.1},
        {"episodic_cost_mean": 8.0, "steepness_k": 0.11},
    ),
    (KL_BEYOND, {"kl": [0.018, 0.041, *[0.018] * 10]}, {"kl": [0.018, 0.039, *[0.018] * 10]}),
    (
        ONE_LINE,
        {"conflict_cosine": [0.0] * 8 + [1.0, -0.97] * 2},
        {"conflict_cosine": [-0.97] * 12},
    ),
    (NOT_FINITE, {"nonfinite": [1, *[0] * 11]}, {"nonfinite": 0}),
]


@pytest.mark.parametrize(("signature", "ill", "well"), CASES)
def test_each_signature_begins_at_its_boundary(signature: str, ill: Any, well: Any) -> None:
    assert signature in diagnose(healthy(**ill)).signatures
    assert {*diagnose(healthy(**well)).signatures} <= {WRONG_WEIGHT}  # where the weight is given


def test_a_weight_off_its_formula_is_seen_where_the_formula_is_kfcpos() -> None:
    right = healthy()["cost_weight"]
    assert diagnose(healthy(cost_weight=right + 0.049)).signatures == []
    ill = healthy(cost_weight=right + 0.051)
    assert diagnose(ill).signatures == [WRONG_WEIGHT]
    assert diagnose(ill, algorithm="ppo_lag").signatures == []


@pytest.mark.parametrize(
    ("signature", "changes"),
    [
        (STALLED, {"rollbacks": 2, "minibatches": 3}),  # a line search keeps its third trial
        (OSCILLATING, {"cost_weight": [0.0, 1.0] * 6}),
        (SUPPRESSED, {"episodic_cost_mean": 5.0, "cost_weight": 0.5}),
    ],
)
def test_rules_without_kfcpos_knobs_are_not_judged_by_them(signature: str, changes: Any) -> None:
    assert signature in diagnose(healthy(**changes)).signatures
    for algorithm in set(RULES) - {"kfcpo"}:
        assert diagnose(healthy(**changes), algorithm=algorithm).signatures == []


def test_a_kl_beyond_its_limit_is_no_bug_of_a_rule_that_keeps_its_last_pass() -> None:
    beyond = healthy(kl=0.1)
    for algorithm in ("kfcpo", "cpo", "any"):
        assert diagnose(beyond, algorithm=algorithm).signatures == [KL_BEYOND]
    for algorithm in KEEP_THE_LAST_PASS:
        assert diagnose(beyond, algorithm=algorithm).signatures == []


def test_runs_thinned_for_the_repository_are_judged_like_whole_ones() -> None:
    noisy = 15.0 + np.random.default_rng(0).normal(0.0, 6.0, 90)
    whole = healthy(epochs=90, episodic_cost_mean=noisy)
    assert diagnose(whole).signatures == diagnose(thin(whole, 30)).signatures == []
    refused = thin(whole.assign(nonfinite=[1] + [0] * 89), 30)
    assert "1 numbers were not finite" in str(diagnose(refused))


def test_before_any_episode_has_ended_the_weight_is_a_half_and_nothing_is_wrong() -> None:
    costs = [np.nan] * 3 + [15.0] * 9
    assert diagnose(healthy(episodic_cost_mean=costs)).signatures == []


def test_only_the_last_third_counts_for_a_signature() -> None:
    early = healthy(episodic_cost_mean=[90.0] * 8 + [15.0] * 4, rollbacks=[8] * 8 + [1] * 4)
    assert diagnose(early).signatures == []


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"episodic_cost_mean": 30.0, "steepness_k": 0.01}, "a larger k"),
        ({"episodic_cost_mean": falling(60.0, 25.0)}, "still falling"),
        ({"episodic_cost_mean": falling(25.0, 60.0)}, "the sign of its gradient"),
        ({"rollbacks": 8, "delta": 0.01}, "an adaptive δ"),
        ({"rollbacks": 8}, "fresher factors"),
        ({"episodic_cost_mean": [10.0, 22.0] * 6, "steepness_k": 9.0}, "a smaller k, 0.1 say"),
        ({"episodic_cost_mean": 4.0, "margin_lambda": 0.1}, "a higher λ"),
        ({"episodic_cost_mean": 4.0, "steepness_k": 0.01}, "a larger k"),
    ],
)
def test_the_advice_fits_the_cause(changes: Any, advice: str) -> None:
    [finding] = diagnose(healthy(**changes)).findings
    assert advice in finding.advice
    assert finding.evidence in str(diagnose(healthy(**changes)))


def test_the_evidence_is_the_runs_own_numbers() -> None:
    [finding] = diagnose(healthy(episodic_cost_mean=31.25, steepness_k=0.01)).findings
    assert "the episodic cost is 31.2, its limit 20; w_c is 0.54" in finding.evidence


def test_several_findings_are_all_told_the_bugs_first() -> None:
    table = healthy(episodic_cost_mean=40.0, kl=0.5, rollbacks=8, cost_weight=0.1)
    assert diagnose(table).signatures == [KL_BEYOND, WRONG_WEIGHT, STALLED, COST_ABOVE]


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=40)
@given(st.data())
def test_any_table_of_numbers_gets_a_verdict_or_a_sentence(data: st.DataObject) -> None:
    table = healthy()
    for name in data.draw(st.sets(st.sampled_from([*diagnosis.NEEDED]), max_size=4)):
        table[name] = data.draw(st.lists(numbers, min_size=12, max_size=12))
    try:
        assert str(diagnose(table))
    except ValueError as error:
        assert "no whole episode" in str(error)


def test_tables_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(ValueError, match="5 epochs is too short to be judged: it takes at least 6"):
        diagnose(healthy(epochs=5))
    with pytest.raises(ValueError, match="0 epochs is too short"):
        diagnose([])
    with pytest.raises(ValueError, match="no column kl, delta"):
        diagnose(healthy().drop(columns=["kl", "delta"]))
    with pytest.raises(ValueError, match="no whole episode ended"):
        diagnose(healthy(episodic_cost_mean=np.nan))
    with pytest.raises(ValueError, match="column kl holds 'oops' where a number should be"):
        diagnose(healthy(kl=["oops", *[0.018] * 11]))


# -------------------------------------------------------------------------------- folders of runs


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run whose every step is refused: delta is fixed far above the KL limit."""
    folder = tmp_path_factory.mktemp("stalled") / "run"
    rule = {"minibatch_size": 100, "adaptive_delta": False, "delta_start": 1.0}
    reports = list(train(tiny(folder, total_steps=2_400, rule=rule, kl_limit=1e-6)))
    assert diagnose(reports).signatures == diagnose(folder).signatures
    return folder


def test_a_folder_its_table_and_its_reports_say_the_same(stored: Path) -> None:
    assert STALLED in diagnose(stored).signatures
    assert diagnose(str(stored)) == diagnose(stored)
    assert diagnose(pd.read_csv(stored / "progress.csv")) == diagnose(stored)


def test_folders_that_hold_no_readable_run_are_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a run"):
        diagnose(tmp_path)
    run = shutil.copytree(stored, tmp_path / "run")
    (run / "progress.csv").write_text("epoch,kl\n1,0.1\n")
    with pytest.raises(ValueError, match="too short"):
        diagnose(run)
    (run / "progress.csv").write_text("epoch\n")
    with pytest.raises(ValueError, match="0 epochs is too short"):
        diagnose(run)
    (run / "progress.csv").write_bytes(b"\xff\xfe\x00,,\n" * 8)
    with pytest.raises(ValueError, match=r"no column|damaged"):
        diagnose(run)
    (run / "progress.csv").unlink()
    with pytest.raises(ValueError, match="does not exist"):
        diagnose(run)
    (run / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        diagnose(run)


def test_the_command_line_says_the_same(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(stored)]) == 0
    assert capsys.readouterr().out == f"{stored}\n{diagnose(stored)}\n"


def test_a_folder_that_is_no_run_does_not_keep_the_command_from_the_others(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = [stored / "none", stored / "nothing"]
    assert main(["diagnose", str(nothing[0]), str(stored), str(nothing[1])]) == 2
    said = capsys.readouterr()
    assert said.out == f"{stored}\n{diagnose(stored)}\n"
    assert said.err == "".join(
        f"error: {path} is not a run: it has no config.json\n" for path in nothing
    )


def test_every_stored_run_gets_a_verdict() -> None:
    folders = [config.parent for config in parts.STORED.parent.rglob("config.json")]
    assert len(folders) > 40
    for folder in folders:
        assert "nan" not in str(diagnose(folder))


@pytest.mark.parametrize(
    ("part", "expected"),
    [("full", set()), ("no_blending", {OSCILLATING}), ("no_rollback", {KL_BEYOND})],
)
def test_stored_runs_of_notebook_07(part: str, expected: set[str]) -> None:
    runs = sorted(parts.STORED.glob(f"{part}_[0-9]"))
    assert len(runs) >= 2
    for run in runs:
        assert set(diagnose(run).signatures) - {COST_ABOVE} == expected


def test_cosines_of_both_signs_are_seen_where_the_minibatches_are_known(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with swapped("broadcast_product"):
        reports = list(train(tiny(folder, total_steps=2_400)))
    assert ONE_LINE in diagnose(reports).signatures
    assert ONE_LINE in diagnose(folder).signatures
    (folder / "minibatches.csv").write_text("epoch,cosine\n1,none\n")
    assert diagnose(folder)
