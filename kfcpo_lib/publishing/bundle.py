"""One archive for a classroom without internet: notebooks, library, stored runs and wheels.

`course.py bundle` collects the wheels and calls this. In the unpacked archive `course.py` finds the
folder `wheels` beside itself and installs everything from there.
"""

import argparse
import platform
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from kfcpo_lib.editions import unplayed
from kfcpo_lib.publishing.pages import read_edition

TOP = "kfcpo-classroom"
PARTS = (
    "course.py",
    "Makefile",
    "pyproject.toml",
    "environment.yml",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "kfcpo_lib",
    "figures",
    "tests/reference/ledger.json",  # notebook 09 reads it
)
WITHOUT = {"__pycache__"}
HOW_TO = """\
KFCPO, the course, for a classroom without internet

1. Install Python 3.11, if it is not there. No other version will do.
2. Open a terminal in this folder and give
       py -3.11 course.py lab      in Windows
       python3 course.py lab       in macOS and Linux
   or, where make is installed, make lab.

The first time, all packages are installed from the folder `wheels`: about 2 GB, a few minutes.
Nothing is fetched from a network. The wheels are made for {system}.

Your notebooks are in `notebooks/`. If one is spoilt, take it from the archive again. The commands
`student`, `bundle` and `grade` are for the teacher's copy of the course.
"""


def system() -> str:
    """The system that the wheels are made for, as in `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def files_of(root: Path) -> Iterator[Path]:
    """Every file of the course that students get as it is."""
    for part in PARTS:
        path = root / part
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in inside if file.is_file() and not WITHOUT & {*file.parts})


def write_bundle(root: Path, wheels: Path, archive: Path) -> None:
    """Write the archive; it appears when it is whole.

    Raises:
        ValueError: if there are no wheels, or a notebook has no student edition.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise ValueError(f"no wheels in {wheels}: call `python course.py bundle`")
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in files_of(root):
            bundle.write(file, f"{TOP}/{file.relative_to(root).as_posix()}")
        for file in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
            notebook = nbformat.writes(unplayed(read_edition(file, "student"))) + "\n"
            bundle.writestr(f"{TOP}/notebooks/{file.name}", notebook)
        for file in found:
            bundle.write(file, f"{TOP}/wheels/{file.name}", zipfile.ZIP_STORED)
        bundle.writestr(f"{TOP}/CLASSROOM.txt", HOW_TO.format(system=system()))
    unfinished.replace(archive)


def main(words: Sequence[str] | None = None) -> int:
    """Write the archive; returns 1, with the reason in a sentence, if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m kfcpo_lib.publishing.bundle", description=__doc__
    )
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"))
    parser.add_argument("--out", type=Path, default=Path(f"build/{TOP}-{system()}.zip"))
    options = parser.parse_args(words)
    try:
        write_bundle(options.root, options.wheels, options.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.0f} MB, for {system()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
