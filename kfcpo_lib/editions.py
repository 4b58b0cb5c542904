"""One master per notebook; the student's edition is made from it.

In a master, the code cell of a solution carries the stub that students get instead of it, in its
metadata: `{"kfcpo": {"stub": "def gae(...):\\n    ..."}}`, and the tag `solution`. In the student's
edition the stub stands in its place. What a check said of the solution is taken out: nobody has
passed it yet. The files that students work in show no results at all: whoever is to predict must
not see the answer below. The pages of the site, which are for reading, do.

A student's notebook with answers in it is never written over, unless `--fresh` asks for it.
"""

import argparse
import ast
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

MASTERS = Path("notebooks")
STUDENT_EDITION = Path("student")


def student_edition(master: Any) -> Any:
    """The notebook that students get.

    Raises:
        ValueError: if a solution has no stub or its stub does not fit; says which cell and why.
    """
    notebook = copy.deepcopy(master)
    verdicts: set[str] = set()
    for number, cell in enumerate(notebook.cells, start=1):
        try:
            _put_stub(cell)
            _clear_verdict(cell, verdicts)
        except ValueError as error:
            raise ValueError(f"cell {number}: {error}") from error
    return notebook


def _put_stub(cell: Any) -> None:
    tags = cell.metadata.get("tags", [])
    stub = cell.metadata.get("kfcpo", {}).get("stub")
    if (stub is None) and ("solution" not in tags):
        return
    if cell.cell_type != "code" or stub is None or "solution" not in tags:
        raise ValueError("a solution is a code cell with the tag `solution` and a stub")
    check_stub(stub, cell.source)
    cell.source = stub
    cell.execution_count = None
    cell.metadata.tags = [*(tag for tag in tags if tag != "solution"), "exercise"]
    del cell.metadata["kfcpo"]


def _clear_verdict(cell: Any, verdicts: set[str]) -> None:
    """Clear what a cell shows if it calls a check, or asks for the verdict of an earlier one.

    Args:
        verdicts: names of the verdicts so far, `name = check_...(...)`; the cell's are added.
    """
    if cell.cell_type != "code":
        return
    nodes = [*ast.walk(_parse(cell.source, "cell"))]
    for node in nodes:
        if isinstance(node, ast.Assign) and _is_check(node.value):
            verdicts |= {ast.unparse(target) for target in node.targets}
    if any(_is_check(node) or _is_read(node, verdicts) for node in nodes):
        cell.update(outputs=[], execution_count=None)


def _is_read(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names


def _is_check(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    return ast.unparse(node.func).rpartition(".")[2].startswith("check_")


def check_stub(stub: str, solution: str) -> None:
    """See that each function of the stub is one of the solution's, with the same arguments.

    The solution may have further functions of its own. A method counts with its class's name.

    Raises:
        ValueError: if not; its text says which function, and what stub and solution have.
    """
    in_stub, in_solution = _signatures(stub, "stub"), _signatures(solution, "solution")
    if not in_stub:
        raise ValueError("the stub defines no function")
    for name, arguments in in_stub.items():
        if name not in in_solution:
            raise ValueError(f"the stub has {name}({arguments}), the solution has no {name}")
        if in_solution[name] != arguments:
            raise ValueError(
                f"the stub has {name}({arguments}), the solution {name}({in_solution[name]})"
            )


def _signatures(source: str, what: str) -> dict[str, str]:
    return _functions(_parse(source, what).body, prefix="")


def _parse(source: str, what: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} of the {what} is not Python") from error


def _functions(body: Sequence[ast.stmt], prefix: str) -> dict[str, str]:
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found[prefix + node.name] = ast.unparse(node.args)
        if isinstance(node, ast.ClassDef):
            found |= _functions(node.body, prefix=f"{node.name}.")
    return found


def unplayed(notebook: Any) -> Any:
    """The notebook as if nobody had run it: no outputs."""
    blank = copy.deepcopy(notebook)
    for cell in blank.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    return blank


def write_edition(master: Path, file: Path, fresh: bool = False) -> str:
    """Write one student's notebook; returns what was done: written, unchanged or kept."""
    edition = student_edition(nbformat.read(master, as_version=4))
    notebook = nbformat.writes(unplayed(edition)) + "\n"
    if file.exists() and file.read_text("utf-8") == notebook:
        return "unchanged"
    if file.exists() and not fresh:
        return "kept (it has changed since it was made; --fresh writes it anew)"
    file.write_text(notebook, "utf-8")
    return "written"


def main(words: Sequence[str] | None = None) -> int:
    """Write the student's edition of every master into a folder."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib.editions", description=__doc__)
    parser.add_argument("--masters", type=Path, default=MASTERS)
    parser.add_argument("--out", type=Path, default=STUDENT_EDITION)
    parser.add_argument("--fresh", action="store_true", help="also over notebooks with answers")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for master in sorted(options.masters.glob("[0-9][0-9]_*.ipynb")):
        file = options.out / master.name
        try:
            print(f"{file}: {write_edition(master, file, options.fresh)}")
        except ValueError as error:
            failed += 1
            print(f"{master}, {error}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
