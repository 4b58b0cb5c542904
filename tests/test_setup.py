"""Set-up: course.py chooses, makes and repairs; the files that name versions agree."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import course
from kfcpo_lib import __main__ as kfcpo_command_line

ROOT = course.ROOT
README = (ROOT / "README.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def make_fake(folder: Path, kind: str) -> Path:
    """A folder that looks like an environment and whose Python is the running one."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    if kind == "venv":
        (folder / "pyvenv.cfg").touch()
    else:
        (folder / "conda-meta").mkdir()
    return folder


# ------------------------------------------------------------------- which environment it uses


def test_venv_variable_goes_before_everything(tmp_path: Path) -> None:
    active = make_fake(tmp_path / "active", "venv")
    environ = {"VENV": str(tmp_path / "named"), "VIRTUAL_ENV": str(active)}
    assert course.choose_folder(environ, active) == tmp_path / "named"


@pytest.mark.parametrize(("kind", "variable"), [("venv", "VIRTUAL_ENV"), ("conda", "CONDA_PREFIX")])
def test_activated_environment_is_used(tmp_path: Path, kind: str, variable: str) -> None:
    active = make_fake(tmp_path / "active", kind)
    assert course.choose_folder({variable: str(active)}, Path("/usr")) == active
    assert course.choose_folder({}, active) == active  # called by its Python, not activated


def test_conda_base_counts_as_none(tmp_path: Path) -> None:
    base = make_fake(tmp_path / "base", "conda")
    environ = {"CONDA_PREFIX": str(base), "CONDA_DEFAULT_ENV": "base"}
    assert course.choose_folder(environ, base) == ROOT / ".venv"
    (base / "condabin").mkdir()
    assert course.choose_folder({}, base) == ROOT / ".venv"


def test_without_any_environment_it_is_dot_venv(tmp_path: Path) -> None:
    assert course.choose_folder({"VENV": ""}, tmp_path) == ROOT / ".venv"
    assert course.choose_folder({"VIRTUAL_ENV": str(tmp_path / "gone")}, tmp_path) == ROOT / ".venv"


def test_activated_environment_with_another_python_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    active = make_fake(tmp_path / "active", "venv")
    (active / "bin" / "python").unlink()
    (active / "bin" / "python").symlink_to("/bin/true")
    assert course.choose_folder({"VIRTUAL_ENV": str(active)}, tmp_path) == ROOT / ".venv"
    assert f"{active} has no Python 3.11" in capsys.readouterr().out


# -------------------------------------------------------------------------- making and repairing


def test_set_up_costs_nothing_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_fake(tmp_path / "venv", "venv")
    installed: list[Path] = []
    monkeypatch.setattr(course, "install", installed.append)
    course.set_up(folder)
    course.set_up(folder)
    assert installed == [folder]


def test_set_up_again_when_requirements_change_or_it_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_fake(tmp_path / "venv", "venv")
    installed: list[Path] = []
    monkeypatch.setattr(course, "install", installed.append)
    course.set_up(folder)
    (folder / course.STAMP).write_text("unfinished")
    course.set_up(folder)
    monkeypatch.setattr(course, "requirements", lambda: (["torch==99"], []))
    course.set_up(folder)
    assert len(installed) == 3


def test_failed_installation_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_fake(tmp_path / "venv", "venv")
    monkeypatch.setattr(course, "run", lambda *words, **options: 1)
    monkeypatch.setattr(course, "answer", lambda command: "3 11" if "-c" in command else None)
    with pytest.raises(course.Trouble, match="pip could not install"):
        course.set_up(folder)
    assert (folder / course.STAMP).read_text() == "unfinished"


def test_half_installed_packages_are_installed_again(tmp_path: Path) -> None:
    for name, files in {"whole-1": ["METADATA", "INSTALLER"], "half-1": ["METADATA"]}.items():
        (tmp_path / f"{name}.dist-info").mkdir()
        for file in files:
            (tmp_path / f"{name}.dist-info" / file).touch()
    course.drop_half_installed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole-1.dist-info"]


def test_environment_finds_the_library_and_pip_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install_in_tmp_path(folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "install", "-q", *words, "--target", str(tmp_path)]
        subprocess.run(command, check=True)

    monkeypatch.setattr(course, "pip_install", install_in_tmp_path)
    course.link_course(tmp_path)
    assert (tmp_path / "kfcpo_course.pth").read_text() == f"{ROOT}\n"
    [found] = importlib.metadata.distributions(path=[str(tmp_path)])
    assert (found.name, found.version) == ("kfcpo-course", PYPROJECT["project"]["version"])


def test_nothing_of_the_users_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(course.Trouble, match="neither empty nor a virtual environment"):
        course.make_environment(tmp_path)
    foreign = make_fake(tmp_path / "foreign", "venv")
    with pytest.raises(course.Trouble, match=r"has another Python than 3\.11"):
        course.make_environment(foreign)
    assert (foreign / "pyvenv.cfg").exists()


def test_message_without_python_3_11(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(course, "NEEDED", (3, 99))
    monkeypatch.setattr(course, "is_python_3_11", lambda *command: False)
    assert course.main(["setup"]) == 2
    error = capsys.readouterr().err
    assert "needs Python 3.11" in error
    assert "Traceback" not in error


# ---------------------------------------------------------------------------------- the commands


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The programs that course.py would have run, in a checkout without notebooks and runs."""
    called: list[list[str]] = []

    def note(command: list[object], environ: object = None) -> int:
        called.append([str(word) for word in command[1:]])
        return 0

    monkeypatch.setattr(course, "run", note)
    monkeypatch.setattr(course, "set_up", lambda folder: None)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.delenv("VENV", raising=False)
    return called


def test_train_starts_or_goes_on_in_its_folder_or_in_another(
    programs: list[list[str]], tmp_path: Path
) -> None:
    assert course.main(["train", "--steps", "20000"]) == 0
    course.main(["train", "--out=elsewhere"])
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "config.json").touch()
    course.main(["train"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").touch()
    course.main(["train", "--out", "elsewhere"])
    words = ["-m", "kfcpo_lib", "train", "--resume"]
    own = course.DEMONSTRATION
    assert programs == [
        [*words, "--out", "runs/demo", *own, "--steps", "20000"],
        [*words, *own, "--out=elsewhere"],
        [*words, "--out", "runs/demo"],
        [*words, "--out", "elsewhere"],
    ]


def test_the_demonstration_settings_are_known_to_the_command_line() -> None:
    parsed, rest = kfcpo_command_line._parser().parse_known_args(["train", *course.DEMONSTRATION])
    assert not rest
    assert parsed.steepness_warmup > 0


def test_lab_opens_the_first_notebook(programs: list[list[str]], tmp_path: Path) -> None:
    course.main(["lab", "--no-browser"])
    assert "--LabApp.default_url=/lab" in programs[-1]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    course.main(["lab"])
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in programs[-1]
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "00_start_here.ipynb").touch()
    course.main(["lab"])
    assert "--LabApp.default_url=/lab/tree/student/00_start_here.ipynb" in programs[-1]


def test_test_lints_types_and_tests(programs: list[list[str]], tmp_path: Path) -> None:
    course.main(["test", "-k", "kfac"])
    assert [words[1] for words in programs] == ["ruff", "ruff", "mypy", "pytest"]
    assert programs[-1][-2:] == ["-k", "kfac"]
    assert "--nbval" not in programs[-1]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    course.main(["test-full"])
    assert "--nbval" in programs[-1]
    assert programs[-1][-4:] == ["-m", "", "--store-results", "tests/full_results.json"]


def test_failed_check_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "run", lambda command, environ: int("mypy" in command))
    assert course.test(Path(sys.prefix), []) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_exit_code_of_a_program_ended_by_a_signal(
    programs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "run", lambda command, environ: -9)
    assert course.main(["train"]) == 137


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        course.main(["tarin"])
    assert ended.value.code == 2
    assert "'tarin'" in capsys.readouterr().err


def test_old_pythons_can_read_course_py_up_to_its_message() -> None:
    ast.parse((ROOT / "course.py").read_text("utf-8"), feature_version=(3, 8))


# ------------------------------------------------------------------------- files that must agree


def test_environment_yml_says_what_pyproject_says() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, packages = conda["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert packages == {"pip": course.requirements()[0]}
    assert "python course.py setup" in (ROOT / "postBuild").read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Binder runs Linux")
@pytest.mark.parametrize("code", [0, 3])
def test_binder_runs_post_build_to_its_end_or_fails(tmp_path: Path, code: int) -> None:
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$@" >> called\nexit {code}\n')
    (tmp_path / "python").chmod(0o755)
    assert os.access(ROOT / "postBuild", os.X_OK)
    environ = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "postBuild"], cwd=tmp_path, env=environ, check=False)
    assert done.returncode == code
    assert (tmp_path / "called").read_text() == "course.py setup\n"


def test_every_requirement_is_pinned() -> None:
    whole, bare = course.requirements()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", requirement) for requirement in whole + bare)


def test_makefile_has_the_commands_of_course_py() -> None:
    targets = re.findall(r"^([\w -]+):", MAKEFILE, re.MULTILINE)
    assert {*" ".join(targets).split()} == {*course.COMMANDS, "help"}


def code_in(text: str) -> str:
    """What stands in code blocks and between back-ticks, one piece a line."""
    pieces = re.finditer(r"```\w*\n(?P<block>.*?)```|`(?P<words>[^`\n]+)`", text, re.DOTALL)
    return "\n".join(piece["block"] or piece["words"] for piece in pieces)


def test_readme_names_only_commands_that_exist() -> None:
    code = code_in(README)
    commands = re.findall(r"\b(?:make|python course\.py) ([a-z][\w-]*)", code)
    assert {"lab", "train", "test", "test-full", "setup"} <= {*commands} <= {*course.COMMANDS}
    for words in re.findall(r"python course\.py (.+)", code):
        assert course.parse(words.split("#")[0].split())[0] in course.COMMANDS


def test_readme_names_the_versions_of_pyproject() -> None:
    whole, bare = course.requirements()
    named = re.findall(r"[\w.-]+==[\w.]*\w", README)
    assert {*named} <= {*whole, *bare}
    python = PYPROJECT["project"]["requires-python"].removeprefix("==").removesuffix(".*")
    assert (
        {*re.findall(r"Python (3\.\d+)", README)} == {python} == {".".join(map(str, course.NEEDED))}
    )


def test_readme_says_which_notebooks_are_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|not yet) \|$", README, re.MULTILINE)
    assert len(rows) == 13
    there = {path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert {name for name, state in rows if state == "yes"} == there


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in code_in(README)
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)


def test_citation_agrees_with_pyproject() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PYPROJECT["project"]["version"]
    assert citation["license"] == PYPROJECT["project"]["license"]


# ---------------------------------------------------------------------------------- quiet imports


@pytest.mark.parametrize("statement", ["import kfcpo_lib", "import kfcpo_lib, safety_gymnasium"])
def test_imports_print_nothing(statement: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", statement],
        cwd=tmp_path,  # from anywhere, as a notebook does
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
