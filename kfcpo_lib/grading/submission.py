"""A student's process, as the checks see it: functions that can be called, and may fail."""

import builtins
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from kfcpo_lib.exercises.checking import Wrong
from kfcpo_lib.grading import wire
from kfcpo_lib.grading.limits import Limits
from kfcpo_lib.grading.student import serve


class Lost(Wrong):
    """A student's process is gone, or cannot be understood; says why in one sentence."""


class Submission:
    """A notebook in a process of its own; a context manager, since the process has to go.

    Raises:
        Lost: if the notebook's cells take too long, crash, or are no notebook.
    """

    def __init__(self, notebook: bytes, names: Sequence[str], limits: Limits) -> None:
        self.limits = limits
        self.deadline = time.monotonic() + limits.notebook_seconds
        self.doing = "Python was starting"
        self.lost = False
        self._heard = bytearray()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._line, theirs = socket.socketpair()
        seconds = int(limits.notebook_seconds + len(names) * limits.exercise_seconds) + 1
        bounds = (int(limits.memory_gb * 2**30), seconds)
        self._process = _context().Process(
            target=serve, args=(theirs, notebook, list(names), self._folder.name, *bounds)
        )
        self._process.start()
        theirs.close()
        try:
            self.lacks = self._run_cells()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Submission":
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process and whatever it has started, and take its folder away."""
        if hasattr(os, "killpg") and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._line.close()
        self._folder.cleanup()

    def _run_cells(self) -> dict[str, str]:
        """Wait until the cells have run; why each missing function is missing."""
        while True:
            message = self._hear()
            if "hopeless" in message:
                raise Lost(f"{one_line(message['hopeless'])}.")
            with _understood():
                if "lacks" in message:
                    self.doing = "your function was running"
                    return {
                        name: one_line(reason or f"{name} is not in the notebook")
                        for name, reason in message["lacks"].items()
                    }
                self.doing = f"code cell {int(message['cell'])} was running"

    def function(self, name: str) -> Callable[..., Any]:
        """The student's function; its calls raise what it raised, or `Wrong` if it is not there."""

        def call(*arguments: Any, **words: Any) -> Any:
            if name in self.lacks:
                raise Wrong(f"{self.lacks[name]}.")
            try:
                return self._call(name, [wire.lay_out(part) for part in arguments], words)
            except Lost:
                self.lost = True
                raise

        return call

    def allow(self, seconds: float) -> None:
        """Set the clock for one exercise."""
        self.deadline = time.monotonic() + seconds

    def _call(self, name: str, arguments: Sequence[Any], words: Mapping[str, Any]) -> Any:
        lent: list[Callable[..., Any]] = []
        ours = [*arguments, *words.values()]
        failures: list[Exception] = []
        self._say((name, arguments, words), lent)
        while True:
            message = self._hear()
            with _understood():
                wire.put_back(ours, message["changed"], message["hooks"])
            if "asks" not in message:
                return _result(message, list(wire.places(ours)), failures)
            with _understood():
                asked = lent[message["asks"]]
                given = wire.decode(message["arguments"])
                named = {word: wire.decode(value) for word, value in message["words"].items()}
            self._say(_ask(asked, given, named, failures), lent)

    def _say(self, message: Any, lent: list[Callable[..., Any]]) -> None:
        content = wire.pack(message, lent)
        try:
            self._line.settimeout(self._seconds_left())
            self._line.sendall(len(content).to_bytes(8, "little") + content)
        except OSError as error:
            raise self._lost(error) from None

    def _hear(self) -> dict[str, Any]:
        """The next line of the student's process."""
        while b"\n" not in self._heard:
            if len(self._heard) > wire.LARGEST:
                raise Lost("what it hands over is too large.")
            try:
                self._line.settimeout(self._seconds_left())
                piece = self._line.recv(2**16)
            except OSError as error:
                raise self._lost(error) from None
            if not piece:
                raise self._lost()
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        with _understood():
            return wire.read_message(bytes(line))

    def _seconds_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, error: OSError | None = None) -> Lost:
        if isinstance(error, TimeoutError):
            return Lost(f"the time was up while {self.doing}.")
        self._process.join(5)
        return Lost(f"Python ended while {self.doing} (exit code {self._process.exitcode}).")


def _context() -> Any:
    """How processes are made; on Linux as copies of one that has the large packages loaded."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kfcpo_lib.grading.student", "kfcpo_lib.widgets.explorer"])
    return context


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a student's process may say anything at all
        raise Lost("what it hands over cannot be read.") from error


def _ask(
    asked: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any], failures: list[Any]
) -> tuple[bool, Any]:
    """What the check's function says to the student's: (failed, answer)."""
    try:
        return False, asked(*given, **named)
    except Exception as error:  # as if the student had called it here
        failures.append(error)
        return True, f"{type(error).__name__}: {error}"


def _result(
    message: Mapping[str, Any], ours: Sequence[wire.Array], failures: Sequence[Exception]
) -> Any:
    """What the student's function returned, or raises what it raised."""
    with _understood():
        if "returned" in message:
            return wire.decode(message["returned"], ours)
        kind, text = (one_line(word) for word in message["raised"])
    if failures:
        raise failures[-1]
    raise _as_raised(kind, text)


def _as_raised(kind: str, text: str) -> Exception:
    """An exception of this name and text; also of this type, if Python has it."""
    known = getattr(builtins, kind, None)
    base: type[Exception] = Exception
    if isinstance(known, type) and issubclass(known, Exception):
        base = Exception if issubclass(known, ExceptionGroup) else known
    words = {"__init__": lambda self: None, "__str__": lambda self: text}
    error: Exception = type(kind, (base,), words)()
    return error


def one_line(text: Any) -> str:
    """A student's words as they may stand in a table and on a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:300])
