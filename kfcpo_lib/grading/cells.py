"""Which cells of a notebook a function needs: those that define it, and what they use in turn."""

import json
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


def code_cells(content: bytes) -> list[str]:
    """The sources of a notebook's code cells.

    Raises:
        ValueError: if this is no notebook; says why.
    """
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is no notebook: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("the file is no notebook of version 4: it has no list of cells")
    return [_source(cell) for cell in cells if _is_code(cell)]


def _is_code(cell: Any) -> bool:
    return isinstance(cell, dict) and cell.get("cell_type") == "code"


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


@dataclass(frozen=True)
class Names:
    """What a cell defines and what it uses, at the notebook's level."""

    defined: frozenset[str]
    used: frozenset[str]
    star: bool = False
    """Whether it imports everything from somewhere."""


def plain_python(source: str) -> str:
    """A cell without what only a notebook understands: its lines of magic, shell and help.

    Raises:
        SyntaxError: if what is left is not Python.
        ValueError: if it holds a character that Python refuses.
    """
    try:
        compile(source, "cell", "exec")
        return source
    except SyntaxError:
        lines = source.split("\n")
    kept = [line for line in lines if not re.match(r"\s*[%!?]|.*\?\s*$", line)]
    compile("\n".join(kept), "cell", "exec")
    return "\n".join(kept)


def names_in(source: str) -> Names:
    """The names of one cell; of a cell that is not Python, the functions it means to define."""
    try:
        python = plain_python(source)
        table = symtable.symtable(python, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what compile() may raise
        return Names(frozenset(re.findall(r"\bdef\s+(\w+)", source)), frozenset())
    bound = (s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported())
    return Names(frozenset(bound), frozenset(_globals(table)), star="import *" in python)


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    at_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (at_top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)


def needed_cells(cells: Sequence[Names], wanted: Iterable[str]) -> list[int]:
    """Numbers of the cells to run, in the notebook's order, so that `wanted` can be called."""
    needed = {n for n, cell in enumerate(cells) if cell.star}
    open_names = set(wanted).union(*(cells[n].used for n in needed))
    seen: set[str] = set()
    while open_names - seen:
        name = (open_names - seen).pop()
        seen.add(name)
        found = {n for n, cell in enumerate(cells) if name in cell.defined}
        open_names = open_names.union(*(cells[n].used for n in found))
        needed |= found
    return sorted(needed)
