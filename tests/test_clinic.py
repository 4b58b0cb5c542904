"""The clinic's patients show what they should, and every fault is put back afterwards."""

import numpy as np
import pytest

from kfcpo_lib import clinic, diagnose, faults
from kfcpo_lib.clinic import PATIENTS, admit, agree, grow_up, table, treated
from kfcpo_lib.diagnosis import (
    COST_ABOVE,
    KL_BEYOND,
    ONE_LINE,
    OSCILLATING,
    STALLED,
    WRONG_WEIGHT,
)
from kfcpo_lib.runs import read_config


def right_functions():
    return {name: getattr(fault.place, fault.name) for name, fault in faults.FAULTS.items()}


def test_a_fault_is_there_inside_the_block_only_also_after_an_error():
    before = right_functions()
    for name, fault in faults.FAULTS.items():
        with pytest.raises(ZeroDivisionError), faults.swapped(name):
            assert getattr(fault.place, fault.name) is fault.wrong
            raise ZeroDivisionError
        with faults.swapped(name, len):
            assert getattr(fault.place, fault.name) is len
    assert right_functions() == before


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="no fault 'flu'; there are flipped_cost_sign, "):
        faults.swapped("flu").__enter__()


@pytest.fixture(scope="module")
def youth():
    return grow_up(epochs=2)


def test_a_patient_goes_on_from_its_youth_and_leaves_it_as_it_is(youth):
    reports, state = youth
    once, again = (admit(PATIENTS["healthy"], state, 1) for _ in range(2))
    whole, _ = grow_up(epochs=3)
    assert [report.epoch for report in once] == [3]
    assert once[0].details == again[0].details == whole[2].details
    assert agree(reports, whole)
    assert not agree(once, reports)


@pytest.mark.parametrize("name", faults.FAULTS)
def test_every_fault_changes_the_steps_and_the_right_function_mends_it(name, youth):
    sound, _ = youth
    patient = clinic.Patient(fault=name)
    right = getattr(faults.FAULTS[name].place, faults.FAULTS[name].name)
    assert agree(admit(patient, None, 1, mended=right), sound)
    assert not agree(admit(patient, None, 2), sound)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("long_steps", STALLED),
        ("broadcast_product", ONE_LINE),
        ("swapped_weights", WRONG_WEIGHT),
        ("aliased_snapshot", KL_BEYOND),
    ],
)
def test_marks_show_within_six_epochs(name, signature):
    assert signature in diagnose(admit(PATIENTS[name], None, 6)).signatures


def test_every_fault_has_its_lab_and_one_setting_too():
    assert [*clinic.LABS] == [*range(1, 9)]
    assert {*clinic.LABS.values()} == {*faults.FAULTS, "no_damping"}
    assert {*clinic.LABS.values()} <= {*PATIENTS}


def test_a_treatment_changes_settings_and_rule():
    patient = treated("long_steps", {"kl_limit": 0.5, "delta_start": 0.25})
    config = clinic.config_of(patient)
    assert (config.kl_limit, config.rule["delta_start"]) == (0.5, 0.25)
    assert config.rule["adaptive_delta"] is False


def test_stored_runs_are_made_by_the_command(tmp_path):
    words = ["--out", str(tmp_path), "--epochs", "1", "--patients", "swapped_weights"]
    assert clinic.main(words) == 0
    assert [*clinic.read_stored(tmp_path)] == ["swapped_weights"]
    files = sorted(path.name for path in (tmp_path / "swapped_weights").iterdir())
    assert files == ["config.json", "progress.csv"]


SIGNS = {
    "healthy": set(),
    "weak_k": {COST_ABOVE},
    "steep_k": {OSCILLATING},
    "long_steps": {STALLED},
    "flipped_cost_sign": {COST_ABOVE},
    "swapped_weights": {WRONG_WEIGHT},
    "aliased_snapshot": {KL_BEYOND},
    "decomposed_once": {STALLED},
}


@pytest.mark.parametrize("name", sorted(path.name for path in clinic.STORED.glob("*_*")))
def test_committed_runs_show_what_ails_them(name):
    folder = clinic.STORED / name
    stored = read_config(folder)["settings"]
    wanted = clinic.config_of(PATIENTS[name], seed=1)
    for setting in ("rule", "steepness_k", "margin_lambda", "cost_limit", "kl_limit", "seed"):
        assert stored[setting] == getattr(wanted, setting)
    assert SIGNS[name] <= set(diagnose(folder).signatures)


def test_the_table_is_that_of_progress_csv(youth):
    reports, _ = youth
    assert [*table(reports)] == [*reports[0].row()]
    assert np.array_equal(table(reports)["epoch"], [1, 2])
