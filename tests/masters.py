"""The course's notebooks, as the tests find them; new ones are picked up by themselves."""

from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[1]
MASTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def name(path: Path) -> str:
    """What a test that is repeated for each notebook is called."""
    return path.stem


def classroom(folder: Path) -> Path:
    """A copy of the repository's shape to run notebooks in; returns the folder to start them in.

    Relative paths work as they do in `notebooks/`; what a notebook writes stays in `folder`.
    """
    start = folder / "student"
    start.mkdir()
    for path in [ROOT / "figures", *(ROOT / "notebooks").iterdir()]:
        if path.suffix == ".ipynb" or path.name.startswith("."):
            continue
        (folder / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        (folder / path.relative_to(ROOT)).symlink_to(path)
    return start
