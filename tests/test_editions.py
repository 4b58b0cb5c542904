"""The student's edition: stubs for solutions, targets kept, and every notebook runs unsolved."""

import nbclient
import nbformat
import pytest
from masters import MASTERS, classroom, code_cells, name, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kfcpo_lib import editions

SOLUTION = (
    "def double(x):\n    return helper(x)\n\ndef helper(x):\n    return 2 * x\n\nprint(double(2))"
)
STUB = 'def double(x):\n    """Twice x, a number."""\n    return None'


def make_master(stub=STUB, solution=SOLUTION, tags=("solution", "wide")):
    target = new_output("stream", name="stdout", text="4\n")
    metadata = {"tags": list(tags), "kfcpo": {"stub": stub} if stub else {}}
    answer = new_code_cell(solution, execution_count=2, outputs=[target], metadata=metadata)
    story = new_code_cell("print(1)", execution_count=1, metadata={"tags": ["nbval-ignore-output"]})
    return new_notebook(cells=[new_markdown_cell("# Two"), story, answer])


# ------------------------------------------------------------------------------ stubs and targets


def test_stub_stands_in_the_place_of_the_solution_and_its_outputs_stay():
    answer = editions.student_edition(make_master()).cells[2]
    assert answer.source == STUB
    assert answer.execution_count is None
    assert answer.outputs[0].text == "4\n"
    assert answer.metadata == {"tags": ["wide", "exercise"]}


def test_all_other_cells_and_the_master_stay_as_they_are():
    master = make_master()
    student = editions.student_edition(master)
    assert student.cells[:2] == master.cells[:2]
    assert master == make_master() | {"cells": master.cells}
    assert master.cells[2].source == SOLUTION


@pytest.mark.parametrize(
    ("earlier", "source", "cleared"),
    [
        ("", "right = check_double(double)", True),
        ("", "mine = double if nb02.check_double(double) else other", True),
        ("right = nb02.check_double(double)", "if right:\n    print(double(3))", True),
        ("right = nb02.check_double(double)", "left, right = 1, 2\nprint(left)", False),
        ("mine = double if check_double(double) else other", "print(mine(3))", False),
        ("", "print('check_double')", False),
    ],
)
def test_verdict_on_the_solution_is_not_shown(earlier, source, cleared):
    master = make_master()
    said = new_output("stream", name="stdout", text="✔ double: right.\n")
    master.cells += [new_code_cell(earlier), new_code_cell(source, execution_count=4)]
    master.cells[-1].outputs = [said]
    cell = editions.student_edition(master).cells[-1]
    assert (cell.outputs, cell.execution_count) == (([], None) if cleared else ([said], 4))
    assert master.cells[-1].outputs == [said]


@pytest.mark.parametrize(
    ("stub", "sentence"),
    [
        ("def double(x, y):\n    return None", r"the stub has double\(x, y\), the solution double"),
        ("def double(x=1):\n    return None", r"double\(x=1\), the solution double\(x\)"),
        ("def double(*, x):\n    return None", r"double\(\*, x\), the solution double\(x\)"),
        ("def twice(x):\n    return None", r"twice\(x\), the solution has no twice"),
        ("answer = None", "the stub defines no function"),
        ("def double(x):\nreturn None", "line 2 of the stub is not Python"),
        (None, "a code cell with the tag `solution` and a stub"),
    ],
)
def test_stub_that_does_not_fit_is_refused_with_cell_and_reason(stub, sentence):
    with pytest.raises(ValueError, match=f"cell 3: .*{sentence}"):
        editions.student_edition(make_master(stub))


def test_stub_without_the_tag_is_refused():
    with pytest.raises(ValueError, match=r"cell 3: .*the tag `solution`"):
        editions.student_edition(make_master(tags=()))


def test_methods_count_with_their_class():
    solution = "class Agent:\n    def act(self, obs):\n        return 1"
    editions.check_stub("class Agent:\n    def act(self, obs):\n        ...", solution)
    with pytest.raises(ValueError, match=r"Agent.act\(self\), the solution Agent.act\(self, obs\)"):
        editions.check_stub("class Agent:\n    def act(self):\n        ...", solution)


# ------------------------------------------------------------------------------------ the command


@pytest.fixture
def words(tmp_path):
    """Arguments of the command, in a folder with one master."""
    (tmp_path / "notebooks").mkdir()
    nbformat.write(make_master(), tmp_path / "notebooks" / "02_two.ipynb")
    (tmp_path / "notebooks" / "draft.ipynb").touch()
    return ["--masters", str(tmp_path / "notebooks"), "--out", str(tmp_path / "student")]


def test_command_writes_valid_notebooks(words, tmp_path):
    assert editions.main(words) == 0
    [file] = (tmp_path / "student").iterdir()
    nbformat.validate(read(file))
    assert STUB in [cell.source for cell in read(file).cells]
    assert not any(cell.get("outputs") for cell in read(file).cells)


def test_answers_are_not_written_over_unless_asked(words, tmp_path, capsys):
    editions.main(words)
    file = tmp_path / "student" / "02_two.ipynb"
    fresh = file.read_text("utf-8")
    file.write_text(fresh.replace("return None", "return x + x"), "utf-8")
    assert editions.main(words) == 0
    assert "kept" in capsys.readouterr().out
    assert "return x + x" in file.read_text("utf-8")
    editions.main([*words, "--fresh"])
    assert file.read_text("utf-8") == fresh
    editions.main(words)
    assert "unchanged" in capsys.readouterr().out


def test_command_fails_in_one_sentence(words, tmp_path, capsys):
    nbformat.write(make_master("x = 1"), tmp_path / "notebooks" / "01_one.ipynb")
    assert editions.main(words) == 1
    error = capsys.readouterr().err
    assert error.endswith("01_one.ipynb, cell 3: the stub defines no function\n")
    assert (tmp_path / "student" / "02_two.ipynb").exists()


# ------------------------------------------------------------------------------ the real notebooks


@pytest.mark.parametrize("master", MASTERS, ids=name)
def test_student_notebook_runs_unsolved_and_shows_before_what_it_shows_then(master, tmp_path):
    student = editions.student_edition(read(master))
    cells = code_cells(student)
    exercises = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    same = [cell for cell in cells if cell.outputs and not may_differ(cell)]
    before = [printed(cell) for cell in same]
    place = {"metadata": {"path": str(classroom(tmp_path))}}
    nbclient.NotebookClient(student, timeout=600, kernel_name="python3", resources=place).execute()
    assert "".join(map(printed, cells)).count("not solved yet") >= len(exercises)
    assert [printed(cell) for cell in same] == before


def may_differ(cell):
    """A target to reach, or a cell whose words are not the same on every machine."""
    return {"exercise", "nbval-ignore-output"} & {*cell.metadata.get("tags", [])}


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)
