"""The archive for a classroom without internet: what is in it, and a real installation from it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from masters import MASTERS, ROOT, read

import course
from kfcpo_lib.editions import student_edition, unplayed
from kfcpo_lib.publishing import bundle

NOWHERE = "http://127.0.0.1:9/simple"  # a port at which nobody answers


def make_wheel(folder: Path, name: str, requires: str | None = None) -> Path:
    """The smallest package: one module of its own name, perhaps in need of another."""
    record = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": "",
        f"{record}/METADATA": metadata,
        f"{record}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{record}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{record}/RECORD"])
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return wheel


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A bundle of the real course with the wheels of a toy one."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "wheels").mkdir()
    for module in ("jupyterlab", "matplotlib", "mujoco", "needed"):
        make_wheel(folder / "wheels", module)
    make_wheel(folder / "wheels", "torch", requires="needed==1.0")
    make_wheel(folder / "wheels", "proud", requires="nowhere-to-be-had==1.0")
    words = ["--root", ROOT, "--wheels", folder / "wheels", "--out", folder / "classroom.zip"]
    assert bundle.main([str(word) for word in words]) == 0
    return folder / "classroom.zip"


def test_students_get_everything_but_solutions(archive):
    with zipfile.ZipFile(archive) as whole:
        names = {name.removeprefix(f"{bundle.TOP}/") for name in whole.namelist()}
        for master in MASTERS:
            notebook = whole.read(f"{bundle.TOP}/notebooks/{master.name}").decode()
            assert nbformat.reads(notebook, 4) == unplayed(student_edition(read(master)))
    files = (file for file in ROOT.glob("figures/runs/**/*") if file.is_file())
    runs = {file.relative_to(ROOT).as_posix() for file in files}
    assert {"course.py", "Makefile", "pyproject.toml", "CLASSROOM.txt"} | runs <= names
    assert "kfcpo_lib/publishing/templates/site.css" in names
    assert "wheels/torch-1.0-py3-none-any.whl" in names
    assert {name for name in names if name.startswith("tests")} == {"tests/reference/ledger.json"}
    assert not {name for name in names if "TEACHING" in name}
    assert not {name for name in names if "__pycache__" in name}


def test_no_wheels_is_said_in_a_sentence(tmp_path, capsys):
    words = ["--root", ROOT, "--wheels", tmp_path, "--out", tmp_path / "classroom.zip"]
    assert bundle.main([str(word) for word in words]) == 1
    assert capsys.readouterr().err == f"no wheels in {tmp_path}: call `python course.py bundle`\n"
    assert list(tmp_path.iterdir()) == []


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as whole:
        whole.extractall(folder)
    return folder / bundle.TOP


def without_network(**further: str) -> dict[str, str]:
    """An environment in which a pip that asks any index fails, and no other environment is on."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "VIRTUAL_ENV", "CONDA", "PYTHON", "UV_"))
    }
    dead = dict.fromkeys(("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"), NOWHERE)
    dead |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    return mine | dead | {"PIP_CONFIG_FILE": os.devnull} | further


def base_python() -> str:
    """The Python behind the environment of this test: as a student calls it, in none."""
    return str(course.python_of(Path(sys.base_prefix)))


def test_real_installation_from_a_bundle_without_an_index(archive, tmp_path):
    place = unpack(archive, tmp_path)
    project = (
        '[project]\nname = "kfcpo-course"\nversion = "0.1.0"\n'
        'dependencies = ["torch==1.0", "jupyterlab==1.0", "matplotlib==1.0", "mujoco==1.0"]\n'
        "[project.optional-dependencies]\ndev = []\n"
        '[tool.kfcpo]\ninstall-without-dependencies = ["proud==1.0"]\n'
    )
    (place / "pyproject.toml").write_text(project)
    done = subprocess.run(
        [base_python(), place / "course.py", "setup"],
        env=without_network(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where = (
        "import torch, needed, proud, importlib.util as i; print(i.find_spec('kfcpo_lib').origin)"
    )
    found = subprocess.run(
        [course.python_of(place / ".venv"), "-c", where],
        env=without_network(),
        cwd=tmp_path,  # a Python that is called with -c looks at its own place first
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"{place / 'kfcpo_lib' / '__init__.py'}\n"


@pytest.mark.full
def test_whole_course_is_installed_from_its_bundle_and_runs(tmp_path, record_property):
    """The real thing, with real wheels: some minutes and about 3 GB."""
    wheels = tmp_path / "wheels"
    course.collect_wheels(Path(sys.prefix), wheels)
    words = ["--root", ROOT, "--wheels", wheels, "--out", tmp_path / "classroom.zip"]
    assert bundle.main([str(word) for word in words]) == 0
    record_property("megabytes", round((tmp_path / "classroom.zip").stat().st_size / 1e6))
    place = unpack(tmp_path / "classroom.zip", tmp_path / "classroom")
    shutil.rmtree(wheels)
    train = ["train", "--steps", "20000", "--out", str(tmp_path / "run")]
    subprocess.run(
        [base_python(), place / "course.py", *train], env=without_network(), check=True, cwd=place
    )
    python = course.python_of(place / ".venv")
    first = place / "notebooks" / "00_start_here.ipynb"
    execute = ["-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", str(first)]
    done = subprocess.run(
        [python, *execute], env=without_network(), capture_output=True, check=True, cwd=place
    )
    notebook = nbformat.reads(done.stdout.decode(), 4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in {output.output_type for output in outputs}
