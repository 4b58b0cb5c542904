"""KFCPO, the course: set it up and do the day's work, with Python's standard library alone.

    python course.py lab         open JupyterLab at the first notebook
    python course.py train       train KFCPO on Safety Gymnasium, or go on with that training
    python course.py test        lint, type-check and test
    python course.py test-full   the same with the long tests; stores tests/full_results.json
    python course.py student     write the students' notebooks, without solutions, into student/
    python course.py site        write both editions as web pages, with search, into build/site/
    python course.py slides      write slides of every notebook into build/slides/
    python course.py bundle      put all that a classroom without a network needs into one archive
    python course.py figures     draw the figures of figures/ again
    python course.py setup       only make the environment and install what is needed

Each command sets everything up first; once that is done, it costs nothing. Further words go to the
program behind the command: `python course.py train --steps 20000`, `... test -k rollback`.

Packages go into the place that the variable VENV names, else into the virtual or conda environment
that is activated (conda's `base` does not count), else into `.venv` beside this file. They come
from the network or, where there is a folder `wheels` beside this file, from there alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import locale
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
NEEDED = (3, 11)
STAMP = "kfcpo-setup.txt"  # in the environment's folder: "unfinished", or what is installed
DEMONSTRATION = [
    "--kl-limit",
    "0.02",
    "--steepness-warmup",
    "400000",
]  # shows most in 500,000 steps
CACHES = ("RUFF_CACHE_DIR", "MYPY_CACHE_DIR", "HYPOTHESIS_STORAGE_DIRECTORY")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Trouble(Exception):
    """Something that the user has to know, said in one message."""


# ------------------------------------------------------------------------------ running programs


def run(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> int:
    """Run a program in the course's folder to its end and return its exit code.

    Ctrl-C reaches the program by itself: here we only wait until it has closed in its own way.
    """
    sys.stdout.flush()
    process = subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environ)
    with contextlib.suppress(ValueError):  # only the main thread may set signal handlers
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def answer(command: Sequence[str | Path]) -> str | None:
    """What a program prints, or None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# ---------------------------------------------------------------------------------- Python 3.11


def is_python_3_11(*command: str | Path) -> bool:
    """Whether this command starts a Python 3.11."""
    return answer([*command, "-c", "import sys; print(*sys.version_info[:2])"]) == "3 11"


def another_python() -> list[str]:
    """The command of a Python 3.11 on this machine, for when the running one is another.

    Raises:
        Trouble: if there is none.
    """
    for command in (["python3.11"], ["py", "-3.11"], ["python3"], ["python"]):
        if is_python_3_11(*command):
            return command
    raise Trouble(
        f"the course needs Python 3.11. This is {sys.version.split()[0]}, and no Python 3.11 was "
        "found on this machine.\nNo other version will do: the MuJoCo that Safety Gymnasium needs "
        "is built for none later.\nInstall Python 3.11 beside your own, or let conda bring it: "
        "`conda env create -f environment.yml`, `conda activate kfcpo`."
    )


# ------------------------------------------------------------------------------- the environment


def python_of(folder: Path) -> Path:
    """The Python program of an environment (virtual or conda, on any system)."""
    places = ["bin/python", "Scripts/python.exe", "python.exe"]
    found = [folder / place for place in places if (folder / place).exists()]
    return found[0] if found else folder / places[os.name == "nt"]


def is_environment(folder: Path, environ: Mapping[str, str]) -> bool:
    """Whether a folder is a virtual environment, or a conda environment other than `base`."""
    if (folder / "pyvenv.cfg").exists():
        return True
    activated = environ.get("CONDA_PREFIX") == str(folder)
    is_base = activated and environ.get("CONDA_DEFAULT_ENV") == "base"
    is_base = is_base or (folder / "condabin").exists()  # also when it is not activated
    return (folder / "conda-meta").exists() and not is_base


def named_folder(environ: Mapping[str, str]) -> Path:
    """The place for the environment if none is activated: what VENV names, else `.venv`."""
    return Path(environ.get("VENV") or ROOT / ".venv").expanduser().absolute()


def choose_folder(environ: Mapping[str, str], running: Path) -> Path:
    """The folder of the environment to use; `running` is that of the running Python."""
    if environ.get("VENV"):
        return named_folder(environ)
    activated = [
        Path(environ[name]) for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if environ.get(name)
    ]
    for folder in [running, *activated]:
        if not is_environment(folder, environ):
            continue
        if folder == running or is_python_3_11(python_of(folder)):
            return folder
        print(f"The activated environment {folder} has no Python 3.11, so it is not used.")
    return named_folder(environ)


def make_environment(folder: Path) -> None:
    """Make a virtual environment, in place of a broken or outdated one of ours if need be."""
    python, there = python_of(folder), (folder / "pyvenv.cfg").exists()
    not_ours = folder != ROOT / ".venv" and not (folder / STAMP).exists()
    if there and not_ours and answer([python, "--version"]) is not None:
        raise Trouble(f"the virtual environment {folder} has another Python than 3.11")
    if folder.exists() and any(folder.iterdir()) and not there:
        raise Trouble(f"{folder} is neither empty nor a virtual environment: name another place")
    # Debian and Ubuntu keep ensurepip, which puts pip into an environment, in a package of its own.
    has_ensurepip = answer([sys.executable, "-m", "ensurepip", "--version"]) is not None
    options = (["--clear"] if there else []) + ([] if has_ensurepip else ["--without-pip"])
    if run([sys.executable, "-m", "venv", *options, folder]) != 0:
        raise Trouble(f"no virtual environment could be made in {folder}; see above")


def ensure_pip(folder: Path, packages: Path) -> None:
    """See to it that the environment has a whole pip of its own."""
    python = str(python_of(folder))
    whole = "import importlib.metadata, pip._internal.cli.main; importlib.metadata.version('pip')"
    if answer([python, "-c", whole]) is not None:
        return
    for record in packages.glob("pip-*.dist-info"):  # else what is broken would count as installed
        shutil.rmtree(record)
    with_own = [python, "-m", "ensurepip", "--upgrade", "--default-pip"]
    ours = next(iter((ROOT / "wheels").glob("pip-*.whl")), None)  # a wheel of pip can be run
    pip = [f"{ours}/pip"] if ours else ["-m", "pip"]
    with_ours = [sys.executable, *pip, "--python", python, "install", "pip", *from_wheels()]
    if answer(with_own) is None and answer(with_ours) is None:
        raise Trouble(
            f"pip could not be put into {folder}.\nOn Debian and Ubuntu this helps: "
            "`sudo apt install python3-venv`; then give the same command again."
        )


def drop_half_installed(packages: Path) -> None:
    """Make pip forget the packages whose installation was cut short.

    pip takes a package for installed as soon as its METADATA is there; INSTALLER is among the last
    files that it writes. Without the record, pip installs the package again, over what is there.
    """
    for record in packages.glob("*.dist-info"):
        if not (record / "INSTALLER").exists():
            print(f"{record.stem} was installed only in part: once more")
            shutil.rmtree(record)


# ------------------------------------------------------------------------------------ installing


def pyproject() -> dict[str, Any]:
    """What pyproject.toml says."""
    import tomllib  # here, so that an older Python can still read this file and say what is wrong

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> tuple[list[str], list[str]]:
    """What pyproject.toml asks for: installed with what it needs, and installed bare."""
    project = pyproject()["project"]
    whole = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return whole, pyproject()["tool"]["kfcpo"]["install-without-dependencies"]


def fingerprint() -> str:
    """Changes whenever an environment has to be set up again."""
    decisive = [requirements(), str(ROOT), pyproject()["project"]["version"]]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def from_wheels() -> list[str]:
    """Options that let pip take packages from the folder `wheels` alone, if there is one."""
    wheels = ROOT / "wheels"  # a bundle has it; pip's own settings might name a network
    return ["--isolated", "--no-index", f"--find-links={wheels}"] if wheels.exists() else []


def pip_install(folder: Path, *words: str) -> None:
    """Call the environment's pip, with whatever settings this machine has for pip."""
    options = ["--disable-pip-version-check", "--no-input", *from_wheels()]
    if run([python_of(folder), "-m", "pip", "install", *options, *words]) != 0:
        place = f"whole files in {ROOT / 'wheels'}" if from_wheels() else "a network"
        raise Trouble(
            f"pip could not install everything; its own words stand above. Is there {place}, and "
            "room for about 2 GB?\nThe next call goes on from here."
        )


def site_packages(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    place = answer(
        [python_of(folder), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    )
    if place is None:
        raise Trouble(f"the Python in {folder} does not work")
    return Path(place)


def link_course(folder: Path) -> None:
    """Let the environment's Python find `kfcpo_lib` in this folder, and pip know of it.

    A wheel with nothing but a path file does it, not `pip install -e`: that would write into this
    folder, which may be read-only.
    """
    project = pyproject()["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    record = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    files: dict[str, str | bytes] = {
        f"{name}.pth": f"{ROOT}\n".encode(locale.getencoding()),  # as Python will read it
        f"{record}/METADATA": metadata,
        f"{record}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{record}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{record}/RECORD"])
    with tempfile.TemporaryDirectory() as place:
        wheel = Path(place) / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        pip_install(folder, "--no-deps", "--no-index", "--force-reinstall", str(wheel))


def install(folder: Path) -> None:
    """Install all packages, having taken up what an interrupted installation has left."""
    packages, stamp = site_packages(folder), folder / STAMP
    unfinished = stamp.exists() and stamp.read_text() == "unfinished"
    if unfinished or folder == named_folder(os.environ):  # others' packages are left alone
        drop_half_installed(packages)
    stamp.write_text("unfinished")
    ensure_pip(folder, packages)
    whole, bare = requirements()
    pip_install(folder, *whole)
    pip_install(folder, "--no-deps", *bare)  # pyproject.toml says why
    link_course(folder)
    if run([python_of(folder), "-c", "import jupyterlab, matplotlib, mujoco, torch"]) != 0:
        raise Trouble("everything is installed, but does not work on this machine; see above")


def set_up(folder: Path) -> None:
    """Bring the environment in `folder` to what pyproject.toml asks for, if it is not there yet."""
    stamp = folder / STAMP
    usable = python_of(folder).exists()
    if usable and stamp.exists() and stamp.read_text() == fingerprint():
        return
    print(f"Setting up KFCPO, the course, in {folder}: about 2 GB, a few minutes, only once.")
    try:
        if not is_python_3_11(python_of(folder)):
            make_environment(folder)
        install(folder)
        stamp.write_text(fingerprint())
    except OSError as error:
        raise Trouble(f"the environment in {folder} could not be set up: {error}") from error


# ------------------------------------------------------------------------------------ the commands


def job_environ(folder: Path) -> dict[str, str]:
    """The variables a command runs under: the environment comes first, strangers stay outside."""
    programs = python_of(folder).parent
    environ = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    environ["PYTHONNOUSERSITE"] = "1"  # a conda environment would prefer the user's own packages
    environ.pop("VIRTUAL_ENV", None)  # IPython would add the packages of another one
    if (folder / "pyvenv.cfg").exists():
        environ["VIRTUAL_ENV"] = str(folder)
    if os.environ.get("VENV"):  # the checkout may be read-only: keep what tools remember elsewhere
        environ |= {name: str(folder / "cache" / name) for name in CACHES}
    return environ


def lab(folder: Path, extra: list[str]) -> int:
    """Open JupyterLab at the first notebook: the students' edition, if there is one."""
    first = "00_start_here.ipynb"
    places = [f"student/{first}", f"notebooks/{first}", "notebooks"]
    start = next((f"/tree/{place}" for place in places if (ROOT / place).exists()), "")
    options = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab{start}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; Jupyter would refuse
        options.append("--allow-root")
    return run([python_of(folder), "-m", "jupyterlab", *options, *extra], job_environ(folder))


def train(folder: Path, extra: list[str]) -> int:
    """Train in runs/demo or in `--out`, going on where an earlier training there has stopped."""
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    named.add_argument("--out")
    out = named.parse_known_args(extra)[0].out
    options = ["--resume"] if out else ["--resume", "--out", "runs/demo"]  # or start, if none is
    if not (ROOT / (out or "runs/demo") / "config.json").exists():
        options += DEMONSTRATION  # a run that goes on keeps the settings it was started with
    words = ["-m", "kfcpo_lib", "train", *options, *extra]
    return run([python_of(folder), *words], job_environ(folder))


def check(folder: Path) -> list[str]:
    """Lint, check the format and the types; returns the checks that failed."""
    failed = []
    for words in ("ruff check .", "ruff format --check .", "mypy"):
        print(f"$ {words}")
        if run([python_of(folder), "-m", *words.split()], job_environ(folder)) != 0:
            failed.append(words)
    return failed


def test(folder: Path, extra: list[str]) -> int:
    """Lint, check the types and run the tests; all of it, whatever fails."""
    failed = check(folder)
    # Two workers of one thread each: threads that fight for two cores make PyTorch slower.
    environ = dict.fromkeys(THREADS, "1") | job_environ(folder)
    options = ["-n", "2", "--dist", "loadscope", "-rs"]  # says why a test was skipped
    if any(ROOT.glob("notebooks/*.ipynb")):
        options.append("--nbval")
    if os.environ.get("VENV"):
        options += ["-o", f"cache_dir={folder / 'cache' / 'pytest'}"]
    code = run([python_of(folder), "-m", "pytest", *options, *extra], environ)
    if failed:
        print(f"Besides the tests, this failed: {', '.join(failed)}")
    return code or len(failed)


def test_full(folder: Path, extra: list[str]) -> int:
    """`test` with the long tests; stores the results, unless `extra` may have left some out."""
    store = [] if extra else ["--store-results", "tests/full_results.json"]
    return test(folder, ["-m", "", *store, *extra])


def student(folder: Path, extra: list[str]) -> int:
    """Write the students' notebooks, made from the masters; answers in them are left alone."""
    words = ["-m", "kfcpo_lib.editions", *extra]
    return run([python_of(folder), *words], job_environ(folder))


def site(folder: Path, extra: list[str]) -> int:
    """Write the students' and the teacher's edition as web pages that need no network."""
    words = ["-m", "kfcpo_lib.publishing.site", *extra]
    return run([python_of(folder), *words], job_environ(folder))


def slides(folder: Path, extra: list[str]) -> int:
    """Write slides of every notebook, each deck one file."""
    words = ["-m", "kfcpo_lib.publishing.slides", *extra]
    return run([python_of(folder), *words], job_environ(folder))


def figures(folder: Path, extra: list[str]) -> int:
    """Run every script of figures/ in alphabetical order; each draws figures from stored runs."""
    codes = [
        run([python_of(folder), script, *extra], job_environ(folder))
        for script in sorted(ROOT.glob("figures/*.py"))
    ]
    print(f"figures/: {len(codes)} scripts run, {sum(code != 0 for code in codes)} failed")
    return int(any(codes))


def collect_wheels(folder: Path, wheels: Path) -> None:
    """Fetch or build a wheel of every package, pip's own included, into an emptied folder."""
    shutil.rmtree(wheels, ignore_errors=True)
    whole, bare = requirements()
    pip = [str(python_of(folder)), "-m", "pip", "wheel", "--disable-pip-version-check"]
    for words in ([*whole, "pip"], ["--no-deps", *bare]):
        if run([*pip, "--wheel-dir", str(wheels), *words]) != 0:
            raise Trouble("not all wheels could be had; pip's own words stand above")


def bundle(folder: Path, extra: list[str]) -> int:
    """Put the students' notebooks, the library, stored runs and all wheels into one archive."""
    wheels = ROOT / "build" / "wheels"
    collect_wheels(folder, wheels)
    words = ["-m", "kfcpo_lib.publishing.bundle", "--wheels", str(wheels), *extra]
    return run([python_of(folder), *words], job_environ(folder))


def setup(folder: Path, extra: list[str]) -> int:
    """Say that all is ready: setting up is what every command begins with."""
    if extra:
        raise Trouble(f"setup takes no further words, not {' '.join(extra)!r}")
    print(f"Ready: {python_of(folder)}")
    return 0


COMMANDS = {
    "lab": lab,
    "train": train,
    "test": test,
    "test-full": test_full,
    "student": student,
    "site": site,
    "slides": slides,
    "bundle": bundle,
    "figures": figures,
    "setup": setup,
}


def parse(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split the command line into the command and the words meant for the program behind it."""
    parser = argparse.ArgumentParser(
        prog="course.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("extra", nargs=argparse.REMAINDER, help="for the program behind it")
    known = parser.parse_args(words)
    return known.command, known.extra


def main(words: Sequence[str]) -> int:
    """Set up, carry out one command and return its exit code."""
    try:
        command, extra = parse(words)
        if sys.version_info[:2] != NEEDED:
            return run([*another_python(), __file__, *words])
        folder = choose_folder(os.environ, Path(sys.prefix))
        set_up(folder)
        code = COMMANDS[command](folder, extra)
        return code if code >= 0 else 128 - code  # a program ended by a signal, as shells say it
    except Trouble as trouble:
        print(f"course.py: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
