"""The fence around a student's code: memory, processor time, files, programs, the network.

The limits are the operating system's, and hold on Linux; macOS does not keep the one on memory,
Windows has none of them (there, time alone is limited, by the teacher's process). The rest is
Python's audit hook: a fence, not a wall, since machine code can climb it.
"""

import os
import sys
from pathlib import Path
from typing import Any

LARGEST_FILE = 10 * 2**20
NEVER = (
    "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.spawn",
    "os.startfile", "os.system", "pty.spawn", "signal.pthread_kill", "subprocess.Popen",
    "ctypes.dlopen", "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto",
)  # fmt: skip
CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "os.utime", "shutil.rmtree",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit_resources(memory: int, seconds: int) -> None:
    """Let this process take `memory` more bytes and `seconds` more of processor time."""
    if sys.platform == "win32":
        return
    import resource

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limits = {
        resource.RLIMIT_CPU: int(used) + seconds,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def put_up(own: Path, hidden: Path) -> None:
    """From now on write only below `own`, read nothing below `hidden` and no notebook.

    Raises:
        PermissionError: in whoever tries it, or tries to start or stop a program or to use the
            network.
    """
    own_text, hidden_text = str(own.resolve()), str(hidden.resolve())

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NEVER:
            raise PermissionError(f"{event} is not allowed in a notebook that is being graded")
        if event == "open":
            _judge_open(arguments, own_text, hidden_text)
        elif event in CHANGES:
            for path in arguments[: 2 if event in ("os.link", "os.rename", "os.symlink") else 1]:
                _must_be_below(path, own_text)

    sys.addaudithook(watch)


def _judge_open(arguments: tuple[Any, ...], own: str, hidden: str) -> None:
    path, _, flags = arguments
    if isinstance(path, int):
        return
    if flags & WRITING:
        _must_be_below(path, own)
        return
    place = _place(path)
    if place.endswith(".ipynb") or _is_below(place, hidden):
        raise PermissionError(f"{path} is not for a notebook that is being graded")


def _must_be_below(path: Any, own: str) -> None:
    if isinstance(path, int):
        raise PermissionError("files are changed by their names in a notebook that is being graded")
    place = _place(path)
    if place != os.devnull and not _is_below(place, own):
        raise PermissionError(f"{path} is not changed by a notebook that is being graded")


def _place(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path))


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder + os.sep)
