"""A folder of students' notebooks, a table of what they have solved.

A notebook belongs to the master whose name its file's name contains. The student is the folder it
lies in or, in a flat folder, the rest of the file's name.
"""

import argparse
import ast
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, redirect_stdout
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from tqdm import tqdm

from kfcpo_lib.exercises.checking import NOT_SOLVED, Check
from kfcpo_lib.grading.cells import code_cells, names_in, needed_cells
from kfcpo_lib.grading.limits import Limits
from kfcpo_lib.grading.submission import Lost, Submission, one_line
from kfcpo_lib.runs import write_whole

MASTERS = Path(__file__).parents[2] / "notebooks"
PASSED, FAILED, NOT_ATTEMPTED = "passed", "failed", "not attempted"
SIGNS = {PASSED: "✔", FAILED: "✘", NOT_ATTEMPTED: "–"}
FORMULA = "=+-@ \t"  # what a spreadsheet would take for the beginning of a formula


@dataclass(frozen=True)
class Exercise:
    """A check, and the names that a notebook hands to it."""

    check: Check
    names: tuple[str, ...]
    students: frozenset[str]
    """Those among the names that a student defines; the others are the master's own."""
    master: Path

    def answers(self, submission: Submission) -> list[Any]:
        """What the check is called with."""
        return [
            submission.function(name) if name in self.students else in_master(self.master, name)
            for name in self.names
        ]


@dataclass(frozen=True)
class Grade:
    """One row of the table."""

    student: str
    notebook: str
    exercise: str
    result: str
    sentence: str = ""


@dataclass(frozen=True)
class Notebook:
    """A file to grade."""

    path: Path
    student: str
    master: str


def exercises_of(master: Path) -> list[Exercise]:
    """The exercises of a master, in its order, from the cells that call its checks.

    Raises:
        ValueError: if a check is called with anything but names, so that nobody knows what to ask
            a student's notebook for.
    """
    module = vars(import_module(f"kfcpo_lib.exercises.nb{master.stem[:2]}"))
    checks = {name: thing for name, thing in module.items() if isinstance(thing, Check)}
    cells = [cell for cell in nbformat.read(master, as_version=4).cells if cell.cell_type == "code"]
    stubs = [cell.metadata["kfcpo"]["stub"] for cell in cells if "kfcpo" in cell.metadata]
    students = frozenset[str]().union(*(names_in(stub).defined for stub in stubs))
    found: dict[str, Exercise] = {}
    for call in (call for cell in cells for call in _calls(cell.source)):
        name = ast.unparse(call.func).rpartition(".")[2]
        if name in checks and name not in found:
            found[name] = Exercise(checks[name], _names(call, master), students, master)
    return list(found.values())


@cache
def in_master(master: Path, name: str) -> Any:
    """What `name` is in a master, from running the statements of it that `name` needs.

    These run in the master's folder, and that is the whole process's: nothing else may run beside.
    """
    cells = [ast.parse(cell).body for cell in code_cells(master.read_bytes())]
    sources = [ast.unparse(statement) for cell in cells for statement in cell]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with chdir(master.parent), redirect_stdout(io.StringIO()):
        for number in needed_cells([names_in(source) for source in sources], [name]):
            exec(compile(sources[number], master.name, "exec"), namespace)
    return namespace[name]


def _calls(source: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _names(call: ast.Call, master: Path) -> tuple[str, ...]:
    names = tuple(argument.id for argument in call.args if isinstance(argument, ast.Name))
    if len(names) != len(call.args) or call.keywords:
        raise ValueError(f"{master.name}: {ast.unparse(call)} should hand over names alone")
    return names


def find_notebooks(folder: Path, masters: Sequence[str]) -> list[Notebook]:
    """Every notebook below a folder, with its student and its master ("" if there is none)."""
    found = []
    for path in sorted(folder.rglob("*.ipynb")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts):
            continue
        master = next((name for name in masters if name in path.stem), "")
        rest = path.stem.replace(master, "") if master else path.stem
        student = parts[0] if len(parts) > 1 else rest.strip("_- ") or folder.resolve().name
        found.append(Notebook(path, _plain(student), master))
    return found


def _plain(text: str) -> str:
    """A student's words, as no spreadsheet takes them for a formula and no terminal obeys them."""
    return one_line(text).lstrip(FORMULA)


def grade_folder(
    folder: Path, limits: Limits | None = None, jobs: int = 1, masters: Path = MASTERS
) -> pd.DataFrame:
    """A row for each exercise of each notebook below `folder`; columns are `Grade`'s fields.

    Raises:
        ValueError: if there are no notebooks, or a master does not say what to ask for.
    """
    files = sorted(masters.glob("[0-9][0-9]_*.ipynb"))
    exercises = {master.stem: exercises_of(master) for master in files}
    notebooks = find_notebooks(folder.resolve(), list(exercises))
    if not notebooks:
        raise ValueError(f"{folder} holds no notebooks (*.ipynb)")
    for master in sorted({notebook.master for notebook in notebooks} & {*exercises}):
        for exercise in exercises[master]:
            for name in {*exercise.names} - exercise.students:
                in_master(exercise.master, name)

    def grade(notebook: Notebook) -> list[Grade]:
        return grade_notebook(notebook, exercises.get(notebook.master), limits or Limits())

    with ThreadPoolExecutor(jobs) as pool:
        graded = list(tqdm(pool.map(grade, notebooks), total=len(notebooks), unit="notebook"))
    rows = [asdict(row) for rows in graded for row in rows]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Grade)])


def grade_notebook(
    notebook: Notebook, exercises: Sequence[Exercise] | None, limits: Limits
) -> list[Grade]:
    """The rows of one notebook. Whatever is in it, this returns, and no other row depends on it."""
    if exercises is None:
        reason = "the name of the file has none of the course's notebooks in it."
        return [Grade(notebook.student, _plain(notebook.path.name), "", FAILED, reason)]
    rows: list[Grade] = []
    try:
        content = _read(notebook.path, limits)
        while len(rows) < len(exercises):  # a process that is lost is made anew for what is left
            rows += _grade_until_lost(notebook, content, exercises[len(rows) :], limits)
    except Lost as lost:
        rows += [_row(notebook, exercise, str(lost)) for exercise in exercises[len(rows) :]]
    return rows


def _read(path: Path, limits: Limits) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise Lost("this is no regular file.")
    if path.stat().st_size > limits.notebook_mb * 2**20:
        raise Lost(f"the file is larger than {limits.notebook_mb:g} MB.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Lost(f"the file cannot be read: {error.strerror}.") from error


def _grade_until_lost(
    notebook: Notebook, content: bytes, exercises: Sequence[Exercise], limits: Limits
) -> list[Grade]:
    rows: list[Grade] = []
    names = sorted({n for exercise in exercises for n in exercise.students & {*exercise.names}})
    with Submission(content, names, limits) as submission:
        for exercise in exercises:
            submission.allow(limits.exercise_seconds)
            verdict = exercise.check.verdict(*exercise.answers(submission))
            rows.append(_row(notebook, exercise, verdict))
            if submission.lost:
                break
    return rows


def _row(notebook: Notebook, exercise: Exercise, verdict: str | None) -> Grade:
    student, master, name = notebook.student, notebook.master, exercise.check.name
    if verdict is None:
        return Grade(student, master, name, PASSED)
    if verdict == NOT_SOLVED:
        return Grade(student, master, name, NOT_ATTEMPTED)
    return Grade(student, master, name, FAILED, _plain(verdict))


def in_words(grades: pd.DataFrame) -> str:
    """The table for a terminal: for each notebook a grid of signs, then what is wrong."""
    parts = []
    for notebook, rows in grades.groupby("notebook", sort=False):
        signs = rows.assign(sign=rows["result"].map(SIGNS))
        grid = signs.pivot_table("sign", "student", "exercise", "first", "", sort=False)
        parts.append(f"{notebook}\n{grid.to_string()}")
    wrong = grades[grades["result"] == FAILED]
    parts += [f"{r.student}, {r.exercise or r.notebook}: {r.sentence}" for r in wrong.itertuples()]
    return "\n\n".join(parts)


def grade(options: argparse.Namespace) -> int:
    """Grade, print, and write the table; 0 if every exercise is passed, else 1.

    Raises:
        ValueError: before anything is graded, if the table could not be written.
    """
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    limits = Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)})
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder} is no folder")
    out = options.out or options.folder / "grades.csv"
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out must lie in a folder that can be written, got {out}")
    grades = grade_folder(options.folder, limits, options.jobs)
    print(f"{in_words(grades)}\n")
    write_whole(out, grades.to_csv(index=False).encode())
    print(out)
    return int((grades["result"] != PASSED).any())
