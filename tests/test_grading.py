"""Grading: honest notebooks get what they deserve; hostile ones cost their own rows alone."""

import json
import os
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masters import MASTERS, code_cells, name, read
from nbformat.v4 import new_code_cell, new_notebook

from kfcpo_lib import __main__ as command_line
from kfcpo_lib.editions import student_edition
from kfcpo_lib.grading import grades, wire
from kfcpo_lib.grading.limits import Limits

PATIENT = Limits(notebook_seconds=900, exercise_seconds=600)  # a loaded machine is no fault
SHORT = Limits(notebook_seconds=900, exercise_seconds=3)  # for functions that never end
ROLLBACK = next(path for path in MASTERS if path.stem == "06_kl_rollback")
KL, UNDO = (c.source for c in code_cells(read(ROLLBACK)) if "kfcpo" in c.metadata)
IMPORTS = "import math\nimport torch"
STUB = "def my_kl(mean_old, log_std_old, mean_new, log_std_new):\n    "


def exercises(master):
    return grades.exercises_of(master)


def grade(path, master, limits=PATIENT):
    notebook = grades.Notebook(path, "ann", master.stem)
    return grades.grade_notebook(notebook, exercises(master), limits)


def grade_cells(folder, *cells, limits=PATIENT):
    """The two rows of a notebook 06 that has these cells."""
    path = folder / "06_kl_rollback.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    return grade(path, ROLLBACK, limits)


def grade_kl(folder, body, limits=PATIENT):
    """The row of a function with this body; the exercise after it, right, has to pass."""
    first, second = grade_cells(folder, IMPORTS, STUB + body, UNDO, limits=limits)
    assert second.result == "passed", second
    return first


# --------------------------------------------------------------------------------------- honest


@pytest.mark.parametrize("master", MASTERS, ids=name)
def test_every_exercise_of_a_master_is_found(master):
    stubs = [cell for cell in read(master).cells if "kfcpo" in cell.metadata]
    assert len(exercises(master)) == len(stubs)
    assert all(exercise.students & {*exercise.names} for exercise in exercises(master))


@pytest.mark.parametrize("master", MASTERS, ids=name)
def test_solutions_pass(master):
    rows = grade(master, master)
    assert [(row.result, row.sentence) for row in rows] == [("passed", "")] * len(rows)
    assert rows


WRONG = {
    "00_start_here": ("inside.any()", "inside.sum()", "inside any hazards"),
    "01_policy_gradients": ("terminated | truncated", "terminated", "the sum goes on after"),
    "02_natural_gradients": ("if squared < 1e-20:", "if False:", "divides zero by zero"),
    "03_kfac": ("    handle.remove()\n", "", "a hook is still on the layer"),
    "04_cmdps": ("max(0.0, multiplier", "max(-9.0, multiplier", "became negative"),
    "05_margin_aware_blending": ("    overlap = ", "    obstacle *= 2\n    overlap = ", "a copy"),
    "06_kl_rollback": ("p.clone()", "p", "did your snapshot copy the numbers"),
    "07_kfcpo_from_scratch": (
        "committed = kl <= kl_limit",
        "committed = True",
        "commit exactly",
    ),
    "08_safety_gymnasium": ("low > cost_limit", "mean > cost_limit", "decides nothing"),
    "09_rivals": ('{"a", "b", "c", "e", "f"}', '{"a", "b", "c", "d"}', "a matter of taste"),
    "11_clinic": ("parameter.detach().clone()", "parameter.detach()", "your copies moved"),
    "12_frontier": ("/ (batch * places)", "/ batch", "G is summed over the places"),
}
"""For each notebook a piece of a solution, a usual mistake in its place, and what is said of it."""


@pytest.mark.parametrize("master", MASTERS, ids=name)
def test_stubs_are_not_attempted_and_a_usual_mistake_gets_its_sentence(master, tmp_path):
    student, solved = student_edition(read(master)), read(master)
    piece, mistake, sentence = WRONG.get(master.stem, ("", "", ""))
    for stub, solution in zip(student.cells, solved.cells, strict=True):
        if piece and "kfcpo" in solution.metadata and piece in solution.source:
            stub.source = solution.source.replace(piece, mistake)
    nbformat.write(student, tmp_path / master.name)
    rows = grade(tmp_path / master.name, master)
    failed = [row for row in rows if row.result == "failed"]
    assert all(sentence in row.sentence for row in failed), failed
    assert len(failed) == bool(piece)
    assert {row.result for row in rows} - {"failed"} <= {"not attempted"}


def test_only_the_cells_that_are_needed_are_run(tmp_path):
    helper = "%%time\n!ls\ndef variance(log_std):\n    return (2 * log_std).exp()"
    kl = KL.replace("(2 * log_std_old).exp()", "variance(log_std_old)")
    story = "while True:\n    pass"
    rows = grade_cells(tmp_path, "%pip --version\n" + IMPORTS, helper, kl, story, UNDO)
    assert {row.result for row in rows} == {"passed"}


def test_what_a_notebook_lacks_is_said(tmp_path):
    rows = grade_cells(tmp_path, IMPORTS, "def my_kl(a:\n  return 0")
    assert rows[0].sentence.startswith("code cell 2 stopped with SyntaxError: ")
    assert rows[1].sentence == "my_rollback is not in the notebook."
    assert {row.result for row in rows} == {"failed"}


def test_an_error_is_told_as_in_the_notebook(tmp_path):
    row = grade_kl(tmp_path, "return mean_old + numpy")
    assert row.sentence == "your function stopped with NameError: name 'numpy' is not defined"


# -------------------------------------------------------------------------------------- hostile


def test_an_endless_loop_in_a_function(tmp_path):
    row = grade_kl(tmp_path, "while True:\n        print('flood' * 10**6)", SHORT)
    assert row.sentence == "the time was up while your function was running."


def test_an_endless_loop_in_a_cell(tmp_path):
    limits = Limits(notebook_seconds=5)
    rows = grade_cells(tmp_path, "while True:\n    my_kl = my_rollback = 3", limits=limits)
    assert [row.sentence.startswith("the time was up while ") for row in rows] == [True, True]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("import os; os._exit(0)", "Python ended while your function was running (exit code 0)"),
        ("import ctypes; ctypes.string_at(0)", "Python ended while your function was running"),
        ("raise SystemExit", "stopped with SystemExit"),
        ("print('x' * 10**8); raise KeyError('\\x1b[2J\\n')", "stopped with KeyError: '"),
        ("return mean_old.repeat(10**5, 1)", "what it hands over is too large"),
        ("return lambda: 0", "it hands over a function; numbers, arrays"),
        ("class Liar(float):\n        __eq__ = print\n    return Liar(0)", "the KL should have"),
        ("import os; os.kill(os.getppid(), 9)", "PermissionError: os.kill is not allowed"),
        ("import subprocess; subprocess.run('ls')", "PermissionError: subprocess.Popen is not"),
        ("open(__import__('torch').__file__, 'a')", "PermissionError: "),
    ],
)
def test_a_hostile_function_costs_its_own_row(body, sentence, tmp_path):
    row = grade_kl(tmp_path, body)
    assert (row.result, row.student) == ("failed", "ann")
    assert sentence in row.sentence
    assert row.sentence.isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not limited")
def test_a_memory_bomb(tmp_path):
    limits = Limits(notebook_seconds=900, exercise_seconds=600, memory_gb=0.5)
    row = grade_kl(tmp_path, "return [bytearray(2**20) for _ in range(10 * 2**10)]", limits)
    assert "MemoryError" in row.sentence


FORGED = """
import json, os, sys, builtins, torch
import numpy as np
from kfcpo_lib.exercises import checking, nb06
nb06.check_kl = nb06.check_rollback = checking.exercise = lambda *_: True
checking.close = torch.equal = torch.allclose = np.allclose = lambda *_, **__: True
builtins.isinstance = lambda *_: True
json.dumps = lambda *_: '{"returned": null}'
"""


def test_a_forged_checker_earns_nothing(tmp_path):
    never = "\n\ndef my_rollback(parameters, steps, kl, kl_limit):\n    return True"
    rows = grade_cells(tmp_path, FORGED + STUB + "return torch.zeros(len(mean_old))" + never)
    assert "passed" not in {row.result for row in rows}


def test_a_notebook_that_speaks_out_of_turn_earns_nothing(tmp_path):
    spoken = json.dumps({"returned": True, "changed": [], "hooks": []}) + "\n{]"
    speak = f"""import os
    for line in range(3, 64):
        try:
            os.write(line, {spoken!r}.encode())
        except OSError:
            pass
    return 0"""
    rows = grade_cells(tmp_path, IMPORTS, STUB + speak, UNDO)
    assert {row.result for row in rows} == {"failed"}


def test_a_notebook_that_forges_its_progress_is_refused(tmp_path):
    forge = "import json\njson.dumps = lambda *_: '{\"cell\": Infinity}'\n"
    rows = grade_cells(tmp_path, forge + KL, UNDO)
    assert {row.sentence for row in rows} == {"what it hands over cannot be read."}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["array", "dtype", "shape", "gradient", "place", "tuple", "set", "dict"]
            ),
            inner,
        )
    ),
)


@given(JSON)
def test_what_is_no_value_is_not_taken_for_one(coded):
    ours = [np.zeros(2)]
    try:
        value = wire.decode(coded, ours)
    except (ValueError, OverflowError):
        return
    wire.encode(value, ours)


def test_values_survive_the_way():
    own, other = torch.arange(3.0), np.ones((2, 0, 3), dtype=np.int32)
    value = [None, True, -1, 2.5, "x", (own, {"a": other}), {1, 2}, np.float32(0.5)]
    coded = json.loads(json.dumps(wire.encode(value, [own])))
    back = wire.decode(coded, [own])
    assert back[:5] == value[:5] and back[6:] == value[6:]
    assert back[5][0].data_ptr() == own.data_ptr()
    assert (back[5][1]["a"].shape, back[5][1]["a"].dtype) == (other.shape, other.dtype)


def test_a_tensor_on_a_graph_differs_from_a_leaf_and_from_a_plain_one():
    leaf = torch.ones(2, requires_grad=True)
    for value in (leaf, leaf.view_as(leaf), leaf.clone(), leaf.detach(), leaf.detach().clone()):
        back = wire.decode(json.loads(json.dumps(wire.encode(value, [leaf]))), [leaf])
        assert back.requires_grad == value.requires_grad
        assert (back.grad_fn is None) == (value.grad_fn is None)
        assert (back.data_ptr() == leaf.data_ptr()) == (value.data_ptr() == leaf.data_ptr())


PEEK = """import gc, sys
    from pathlib import Path
    import kfcpo_lib
    from kfcpo_lib.exercises import nb06
    real = [o for o in gc.get_objects() if type(o).__name__ == "Check"]
    assert not real and nb06.check_kl() is False
    frames, frame = [], sys._getframe()
    while frame:
        frames += [frame.f_globals.get("__name__", "")]
        frame = frame.f_back
    modules = [n for n, m in sys.modules.items() if hasattr(m, "__file__")]
    assert not any("exercises" in name for name in [*frames, *modules])
    try:
        for path in [Path(NOTEBOOK), Path(kfcpo_lib.__file__).parent / "exercises" / "nb06.py"]:
            path.read_text()
            raise AssertionError(path)
    except PermissionError:
        return my_rollback
"""


def test_checks_and_other_notebooks_cannot_be_read_by_a_student(tmp_path):
    body = PEEK.replace("NOTEBOOK", repr(str(ROLLBACK)))
    assert "it hands over a function" in grade_kl(tmp_path, body).sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is no notebook: Expecting value"),
        (b"\x80\x04N.", "the file is no notebook: "),
        (b"[" * 10**5, "the file is no notebook: "),
        (b"[]", "it has no list of cells"),
        (b'{"cells": [3, {"cell_type": "code", "source": 4}]}', "is not in the notebook"),
        (b" " * 2**20, "the file is larger than 0.5 MB."),
    ],
)
def test_a_file_that_is_no_notebook(content, sentence, tmp_path):
    path = tmp_path / "06_kl_rollback.ipynb"
    path.write_bytes(content)
    rows = grade(path, ROLLBACK, Limits(notebook_seconds=900, notebook_mb=0.5))
    assert [row.result for row in rows] == ["failed"] * 2
    assert sentence in rows[0].sentence


# ------------------------------------------------------------------------------ the whole folder


@pytest.fixture
def classroom(tmp_path):
    """Three students: one in a folder of her own, one flat, one with a file of another name."""
    folder = tmp_path / "class"
    for place, cell in {
        "=ann/06_kl_rollback.ipynb": KL,
        "06_kl_rollback_bob.ipynb": STUB + "import os; os._exit(3)",
        "homework.ipynb": "",
        "=ann/.ipynb_checkpoints/06_kl_rollback.ipynb": "",
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        cells = [new_code_cell(source) for source in (IMPORTS, cell, UNDO)]
        nbformat.write(new_notebook(cells=cells), folder / place)
    (folder / "06_kl_rollback_link.ipynb").symlink_to(ROLLBACK)
    return folder


def test_command_grades_prints_and_writes_the_table(classroom, tmp_path, capsys):
    out = tmp_path / "out.csv"
    words = ["grade", str(classroom), "--out", str(out), "--notebook-seconds", "900"]
    assert command_line.main([*words, "--exercise-seconds", "600"]) == 1
    table = pd.read_csv(out, keep_default_na=False)
    rows = {(row.student, row.exercise): (row.result, row.sentence) for row in table.itertuples()}
    kl, undo = "KL of Gaussian policies", "rollback"
    assert rows[("ann", kl)] == rows[("ann", undo)] == rows[("bob", undo)] == ("passed", "")
    assert rows[("bob", kl)][1].endswith("(exit code 3).")
    assert rows[("homework", "")][1].startswith("the name of the file has none")
    assert rows[("link", kl)] == rows[("link", undo)] == ("failed", "this is no regular file.")
    assert len(rows) == 7
    printed = capsys.readouterr().out
    assert "✔" in printed
    assert f"bob, {kl}: Python ended" in printed


def test_what_masters_define_is_made_before_several_are_graded_at_once(tmp_path, monkeypatch):
    made = []

    def note(master, name):
        made.append((master.stem, name, threading.current_thread() is threading.main_thread()))

    monkeypatch.setattr(grades, "in_master", note)
    monkeypatch.setattr(grades, "grade_notebook", lambda *_: [])
    for student in ("ann", "bob"):
        nbformat.write(new_notebook(cells=[]), tmp_path / f"11_clinic_{student}.ipynb")
    grades.grade_folder(tmp_path, jobs=2)
    assert ("11_clinic", "treat", True) in made
    assert {(master, alone) for master, _, alone in made} == {("11_clinic", True)}


def test_no_word_of_a_student_is_a_formula(tmp_path):
    nbformat.write(new_notebook(cells=[]), tmp_path / '=HYPERLINK("x")\x1b[2J.ipynb')
    [row] = grades.grade_folder(tmp_path).itertuples()
    assert row.notebook == 'HYPERLINK("x") [2J.ipynb'
    assert row.student == 'HYPERLINK("x") [2J'


def test_command_says_what_is_wrong_with_its_words(tmp_path, capsys):
    for words, sentence in {
        (str(tmp_path),): "holds no notebooks",
        (str(tmp_path), "--memory-gb", "0"): "memory_gb must be positive",
        (str(tmp_path), "--jobs", "0"): "--jobs must be at least 1",
        (str(tmp_path), "--out", "/nowhere/to.csv"): "--out must lie in a folder",
        (str(tmp_path / "nowhere"),): "nowhere is no folder",
    }.items():
        assert command_line.main(["grade", *words]) == 2
        assert sentence in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_master_has_to_say_what_is_checked(tmp_path):
    cell = new_code_cell("nb06.check_kl(lambda *_: 0)")
    nbformat.write(new_notebook(cells=[cell]), tmp_path / ROLLBACK.name)
    with pytest.raises(ValueError, match=r"06_kl_rollback.*should hand over names alone"):
        grades.exercises_of(Path(tmp_path / ROLLBACK.name))
