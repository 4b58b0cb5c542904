"""A student's process: runs the cells that the exercises need, then answers calls.

Nothing of the checks is in here: `kfcpo_lib.exercises` is replaced by an empty stand-in, so that
a notebook that imports its checks still runs. What a notebook prints is thrown away.
"""

import importlib.util
import json
import os
import pkgutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from kfcpo_lib.grading import fence, wire
from kfcpo_lib.grading.cells import code_cells, names_in, needed_cells, plain_python


def serve(
    line: socket.socket,
    notebook: bytes,
    names: Sequence[str],
    place: str,
    memory: int,
    seconds: int,
) -> None:
    """Run a notebook for the functions `names`, then answer calls until the line closes."""
    _move_in(place, line.fileno())
    checks = _hide_checks()
    pen = Student(line)
    try:
        sources = code_cells(notebook)
        fence.limit_resources(memory, seconds)
        fence.put_up(Path(place), checks)
        namespace = {"__name__": "__main__", "display": lambda *_, **__: None}
        pen.run_cells(namespace, sources, names)
        pen.answer_calls(namespace)
    except Exception as error:
        pen.say({"hopeless": _in_words(error)})


def _move_in(place: str, line: int) -> None:
    """Own session, own folder, nothing of the teacher's environment, no output, one thread."""
    if os.name == "posix":
        os.setsid()
        os.closerange(3, line)
        os.closerange(line + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(place)
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    os.environ.clear()
    os.environ |= kept | {"HOME": place, "TMPDIR": place, "MPLBACKEND": "agg"}
    os.environ |= {"MPLCONFIGDIR": place, "OMP_NUM_THREADS": "1"}
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    torch.set_num_threads(1)


def _hide_checks() -> Path:
    """Put a stand-in for every module of checks; returns the folder of the real ones."""
    spec = importlib.util.find_spec(wire.CHECKS)
    folder = Path(str(spec.origin)).parent if spec else Path(os.devnull)
    package = _stand_in(wire.CHECKS)
    for module in pkgutil.iter_modules([str(folder)]):
        setattr(package, module.name, _stand_in(f"{wire.CHECKS}.{module.name}"))
    return folder


def _stand_in(name: str) -> ModuleType:
    def absent(attribute: str) -> Callable[..., bool]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return lambda *_, **__: False

    module = ModuleType(name)
    vars(module).update(__path__=[], __getattr__=absent)
    sys.modules[name] = module
    return module


class Student:
    """The student's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.file = line.makefile("rb")
        self.arguments: list[Any] = []
        self.given: list[Any] = []

    def say(self, message: dict[str, Any]) -> None:
        """Send one line of JSON."""
        self.line.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> Any:
        """The next message of the check; ends the process if there will be none."""
        size = int.from_bytes(self.file.read(8), "little")
        if not size:
            sys.exit()
        return wire.unpack(self.file.read(size), self.borrow)

    def run_cells(
        self, namespace: dict[str, Any], sources: Sequence[str], wanted: Sequence[str]
    ) -> None:
        """Run what is needed; says before each cell which one, and at the end what is missing."""
        cells, errors = [names_in(source) for source in sources], {}
        for number in needed_cells(cells, wanted):
            self.say({"cell": number + 1})
            try:
                exec(compile(plain_python(sources[number]), "cell", "exec"), namespace)
            except BaseException as error:  # the next cell is run, as in a notebook
                errors[number] = f"code cell {number + 1} stopped with {_in_words(error)}"
        lacks = {}
        for name in wanted:
            if not callable(namespace.get(name)):
                places = [n for n, cell in enumerate(cells) if name in cell.defined]
                lacks[name] = next((errors[n] for n in places if n in errors), None)
        self.say({"lacks": lacks})

    def answer_calls(self, namespace: dict[str, Any]) -> None:
        """Call the student's functions as asked, for ever."""
        while True:
            name, arguments, words = self.hear()
            self.arguments = [*arguments, *words.values()]
            self.given = [_copy(array) for array in wire.places(self.arguments)]
            try:
                ready = [iter(a) if isinstance(a, wire.Once) else a for a in arguments]
                returned = namespace[name](*ready, **words)
                own = list(wire.places(self.arguments))
                answer = {"returned": wire.encode(returned, own)} | self.changes()
                json.dumps(answer)
            except BaseException as error:
                answer = {"raised": [type(error).__name__, _in_words(error, name=False)]}
                answer |= self.changes()
            self.say(answer)

    def changes(self) -> dict[str, Any]:
        """What has become of the arguments since they came, or were last told."""
        now = list(wire.places(self.arguments))
        changed = []
        if len(now) == len(self.given):
            for place, array in enumerate(now):
                if not _same(array, self.given[place]):
                    changed.append([place, wire.encode(array)])
                    self.given[place] = _copy(array)
        return {"changed": changed, "hooks": wire.hooks(self.arguments)}

    def borrow(self, number: int) -> Callable[..., Any]:
        """A function that calls the check's function of this number."""

        def call(*arguments: Any, **words: Any) -> Any:
            coded = {name: wire.encode(value) for name, value in words.items()}
            asks = {"asks": number, "arguments": [wire.encode(a) for a in arguments]}
            self.say(asks | {"words": coded} | self.changes())
            failed, answer = self.hear()
            if failed:
                raise RuntimeError(answer)
            return answer

        return call


def _copy(array: Any) -> Any:
    return array.detach().clone() if isinstance(array, torch.Tensor) else array.copy()


def _same(now: Any, before: Any) -> bool:
    if isinstance(now, torch.Tensor) != isinstance(before, torch.Tensor):
        return False
    now, before = (np.asarray(_copy(array)) for array in (now, before))
    alike = (now.shape, now.dtype) == (before.shape, before.dtype)
    return alike and bool(now.tobytes() == before.tobytes())


def _in_words(error: BaseException, *, name: bool = True) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"[:500] if name else text[:500]
