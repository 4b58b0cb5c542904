"""One master per notebook; the student's edition is made from it.

In a master, the code cell of a solution carries the stub that students get instead of it, in its
metadata: `{"kfcpo": {"stub": "def gae(...):\\n    ..."}}`, and the tag `solution`. In the student's
edition the stub stands in its place; the solution's outputs stay below it as the target to reach.
"""

import argparse
import ast
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

MASTERS = Path("notebooks")
STUDENT_EDITION = Path("student")


def student_edition(master: Any) -> Any:
    """The notebook that students get.

    Raises:
        ValueError: if a stub does not fit its solution (see `check_stub`).
    """
    notebook = copy.deepcopy(master)
    for cell in notebook.cells:
        stub = cell.metadata.get("kfcpo", {}).get("stub")
        if stub is None:
            continue
        check_stub(stub, cell.source)
        cell.source = stub
        cell.execution_count = None
        cell.metadata.tags = [*(t for t in cell.metadata.tags if t != "solution"), "exercise"]
        del cell.metadata["kfcpo"]["stub"]
    return notebook


def check_stub(stub: str, solution: str) -> None:
    """Raise a ValueError unless the stub defines the same functions, with the same arguments."""
    in_stub, in_solution = _signatures(stub), _signatures(solution)
    missing = {name: sign for name, sign in in_stub.items() if in_solution.get(name) != sign}
    if missing or not in_stub:
        raise ValueError(f"the stub's functions {in_stub} do not fit the solution's {in_solution}")


def _signatures(source: str) -> dict[str, str]:
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    return {function.name: ast.unparse(function.args) for function in functions}


def main(words: Sequence[str] | None = None) -> int:
    """Write the student's edition of every master into a folder."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib.editions", description=__doc__)
    parser.add_argument("--masters", type=Path, default=MASTERS)
    parser.add_argument("--out", type=Path, default=STUDENT_EDITION)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.masters.glob("[0-9][0-9]_*.ipynb")):
        notebook = student_edition(nbformat.read(path, as_version=4))
        nbformat.write(notebook, options.out / path.name)
        print(options.out / path.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
