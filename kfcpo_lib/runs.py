"""A run's folder: written atomically, read without executing anything, resumed to the same bytes.

`config.json` (settings and versions), `progress.csv` (a row an epoch), `episodes.csv`,
`minibatches.csv`, `policy.pt`, `snapshots/`, and `checkpoint.pt` (all that resuming needs).
"""

import contextlib
import csv
import io
import json
import math
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import torch

from kfcpo_lib.records import EpochReport, TrainConfig, config_to_dict

CHECKPOINT_FORMAT = "kfcpo_lib checkpoint 2"
POLICY_FORMAT = "kfcpo_lib policy 1"
TABLES = ("progress.csv", "episodes.csv", "minibatches.csv")
EVALUATION_COLUMNS = ("actions", "env_steps", "episode_return", "episode_cost")
CONTENT = ("config.json", *TABLES, "policy.pt", "checkpoint.pt")
FREE_TO_CHANGE = ("total_steps", "run_dir", "env_threads", "device", "policy_snapshots")
"""Settings in which a resumed run may differ from what it was started with."""


class RunWriter:
    """Writes one run's folder, and keeps others from writing it until it is closed or dies."""

    epoch = 0
    """The last epoch that is safe on disk."""
    checkpoint: dict[str, Any] | None = None
    """What to go on from; None: from the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows = dict.fromkeys(TABLES, 0)
        self._columns: dict[str, list[str]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / ".lock", "ab")  # noqa: SIM115, closed by close()
        except OSError as error:
            raise self._failure(".lock", error) from error
        try:
            lock(self._lock)
        except BlockingIOError as error:
            self.close()
            message = f"{folder} is being written by another training: end that one (or close it)"
            raise BlockingIOError(error.errno, f"{message}, or name another folder") from error

    @classmethod
    def open(cls, config: TrainConfig, *, resume: bool) -> "RunWriter":
        """The folder of a new run, or of the one to resume; changes no file yet.

        Raises:
            FileExistsError: if the folder holds a run that is not to be resumed.
            ValueError: if the configuration, the checkpoint or a table does not fit the run.
            OSError: if the folder cannot be written, or another training is writing it.
        """
        writer = cls(Path(str(config.run_dir)))
        try:
            writer._examine(config, resume)
        except BaseException:
            writer.close()
            raise
        return writer

    def close(self) -> None:
        """Let others write the folder."""
        self._lock.close()

    def _examine(self, config: TrainConfig, resume: bool) -> None:
        held = [name for name in CONTENT if (self.folder / name).exists()]
        if held and not resume:
            raise FileExistsError(
                f"{self.folder} holds a run already ({', '.join(held)}): "
                f"resume it (--resume) or name another folder"
            )
        if held:
            check_same_run(config, read_config(self.folder)["settings"])
        if "checkpoint.pt" in held:
            self.checkpoint = read_checkpoint(self.folder)
            check_same_run(config, self.checkpoint["settings"])
            self._rows = self.checkpoint["table_rows"]
            self.epoch = self.checkpoint["epoch"]
        self._check_tables()

    def _check_tables(self) -> None:
        for name, rows in self._rows.items():
            found = count_rows(self.folder / name)
            if found < rows:
                raise ValueError(
                    f"{self.folder / name} has {found} rows but the checkpoint counted {rows}: "
                    f"the table was shortened after it was written"
                )
            if rows:
                _must_be_text(self.folder / name)
        epochs = count_rows(self.folder / "progress.csv")
        if self.checkpoint is None and epochs > 1:
            # A run that was interrupted before its first checkpoint has one row at most.
            raise ValueError(
                f"{self.folder} has {epochs} epochs but no checkpoint.pt: it cannot be resumed"
            )

    def begin(self, config: TrainConfig) -> None:
        """Take away what was written after the checkpoint, and write `config.json`."""
        for name in TABLES:
            try:
                self._cut_back(name)
            except OSError as error:
                raise self._failure(name, error) from error
        self._write("config.json", self._config_json(config))

    def _config_json(self, config: TrainConfig) -> bytes:
        """The settings, and what made the run; if it is resumed by something else, that too."""
        settings = config_to_dict(config)
        settings.pop("run_dir")
        present: dict[str, Any] = {"versions": versions(), "git_revision": git_revision()}
        made_by = provenance(read_config(self.folder)) if self.epoch else [present]
        if any(made_by[-1].get(name) != present[name] for name in present):
            made_by.append({"after_epoch": self.epoch} | present)
        first, *resumed = made_by
        content: dict[str, Any] = {"settings": settings}
        content |= {name: first.get(name) for name in present}
        content |= {"resumed": resumed} if resumed else {}
        return (json.dumps(content, indent=2) + "\n").encode()

    def append(self, report: EpochReport) -> None:
        """Add one epoch to the tables. It counts once the checkpoint after it is written."""
        self._add_rows("progress.csv", [report.row()])
        self._add_rows("episodes.csv", [asdict(episode) for episode in report.episodes])
        epoch = {"epoch": report.epoch}
        self._add_rows("minibatches.csv", [epoch | asdict(m) for m in report.details])

    def save_checkpoint(self, config: TrainConfig, state: Mapping[str, Any]) -> None:
        """Replace `checkpoint.pt` by this state, in one piece; `state["epoch"]` is safe then."""
        rows, settings = dict(self._rows), config_to_dict(config)
        header = {"format": CHECKPOINT_FORMAT, "table_rows": rows, "settings": settings}
        self._write("checkpoint.pt", _torch_bytes(header | dict(state)))
        self.epoch = state["epoch"]

    def save_policy(self, policy: Mapping[str, Any], name: str = "policy.pt") -> None:
        """Replace a policy file, in one piece."""
        self._write(name, _torch_bytes({"format": POLICY_FORMAT} | dict(policy)))

    def _cut_back(self, name: str) -> None:
        """Leave the rows that count; none of them, no header either."""
        path, rows = self.folder / name, self._rows[name]
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")[: rows + 1 if rows else 0]
        size = sum(len(line) + 1 for line in lines)
        if path.stat().st_size > size:
            os.truncate(path, size)
        if lines:
            self._columns[name] = lines[0].decode().split(",")

    def _add_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        columns = self._columns.setdefault(name, list(rows[0]))
        self._widen(name, [column for column in rows[0] if column not in columns])
        text = io.StringIO()
        table = csv.DictWriter(text, columns, restval=math.nan, lineterminator="\n")
        if not self._rows[name]:
            table.writeheader()
        table.writerows(rows)
        try:
            _append(self.folder / name, text.getvalue().encode())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut_back(name)
            raise self._failure(name, error) from error
        self._rows[name] += len(rows)

    def _widen(self, name: str, columns: Sequence[str]) -> None:
        """Add columns to a table: an epoch without an update lacks those of its rule."""
        if not columns:
            return
        header, *rows = (self.folder / name).read_text(encoding="utf-8").splitlines()
        wider = [",".join([header, *columns]), *(row + ",nan" * len(columns) for row in rows)]
        self._write(name, "".join(line + "\n" for line in wider).encode())
        self._columns[name] += columns

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.folder / name, content)
        except OSError as error:
            raise self._failure(name, error) from error

    def _failure(self, name: str, error: OSError) -> OSError:
        saved = f"the run is safe up to epoch {self.epoch}: make room and resume it (--resume)"
        advice = saved if self.epoch else "nothing has been trained yet: name a writable folder"
        reason = error.strerror or str(error)
        return OSError(error.errno, f"cannot write {self.folder / name}: {reason}; {advice}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one piece: a reader, or a crash, meets the old one or the new one."""
    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        _append(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock(file: IO[bytes]) -> None:
    """Lock an open file until it is closed, or its process dies.

    Raises:
        BlockingIOError: if somebody else holds the lock.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return  # some network drives know no locks


def count_rows(table: Path) -> int:
    """Complete rows of a table, without its header; 0 if there is no such table."""
    return max(table.read_bytes().count(b"\n") - 1, 0) if table.exists() else 0


def _must_be_text(table: Path) -> None:
    try:
        table.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is damaged: it is no text ({error.reason})") from error


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a run.

    Raises:
        ValueError: if the folder holds no run, or the file is damaged.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run: it has no config.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise ValueError(f"{path} is not a configuration of kfcpo_lib")
    return content


def read_train_config(folder: str | Path, **changes: Any) -> TrainConfig:
    """The `TrainConfig` a run was started with, with some settings changed.

    Raises:
        ValueError: if the file holds a setting that this version does not know, or a bad value.
    """
    settings = read_config(folder)["settings"] | {"run_dir": str(folder)} | changes
    try:
        return TrainConfig(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{Path(folder) / 'config.json'}: {error}") from error


def check_same_run(config: TrainConfig, stored: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the settings in which `config` differs from the stored ones.

    A setting that was not there yet when the run was stored had its default.
    """
    now = config_to_dict(config)
    before = config_to_dict(TrainConfig()) | dict(stored)
    differences = [
        f"{name} was {before[name]!r}, now {now[name]!r}"
        for name in now
        if name not in FREE_TO_CHANGE and now[name] != before[name]
    ]
    if differences:
        raise ValueError(f"{config.run_dir} was started otherwise: {'; '.join(differences)}")


def read_progress(folder: str | Path) -> pd.DataFrame:
    """`progress.csv` as a table, one row an epoch."""
    return _read_table(Path(folder) / "progress.csv")


def read_episodes(folder: str | Path) -> pd.DataFrame:
    """`episodes.csv` as a table, one row a finished whole episode."""
    return _read_table(Path(folder) / "episodes.csv")


def read_evaluation(folder: str | Path) -> pd.DataFrame:
    """`evaluation.csv` as a table, one row an episode; see `evaluation.store_evaluation`."""
    table = _read_table(Path(folder) / "evaluation.csv")
    if not set(EVALUATION_COLUMNS) <= set(table):
        raise ValueError(f"{Path(folder) / 'evaluation.csv'} is not an evaluation of kfcpo_lib")
    return table


def read_minibatches(folder: str | Path) -> pd.DataFrame:
    """`minibatches.csv` as a table, one row a trial step."""
    return _read_table(Path(folder) / "minibatches.csv")


def read_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The checkpoint of a run, checked; see `read_torch`."""
    path = Path(folder) / "checkpoint.pt"
    checkpoint = read_torch(path, CHECKPOINT_FORMAT)
    settings, rows = checkpoint.get("settings"), checkpoint.get("table_rows")
    whole = isinstance(settings, dict) and isinstance(rows, dict) and set(rows) == set(TABLES)
    counts = [checkpoint.get("epoch"), *(rows or {}).values()] if whole else [None]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError(f"{path} is not whole: its settings, epoch or table rows are missing")
    return checkpoint


def read_policy(folder: str | Path, name: str = "policy.pt") -> dict[str, Any]:
    """A stored policy of a run, checked; see `read_torch`."""
    return read_torch(Path(folder) / name, POLICY_FORMAT)


def read_torch(path: Path, expected_format: str) -> dict[str, Any]:
    """A file written by this module, read without executing anything in it.

    Raises:
        ValueError: if it is missing, damaged, of another program, or holds a policy with numbers
            that are not finite.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch writes checksums but does not look at them
            if damaged or any(info.external_attr for info in archive.infolist()):
                raise zipfile.BadZipFile(f"wrong checksum of {damaged or 'its list of contents'}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports a damaged file in a dozen ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or not a file of kfcpo_lib: {reason}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != expected_format:
        raise ValueError(f"{path} is not a {expected_format!r} file: its format is {found!r}")
    _check_acting(path, content)
    return dict(content)


def _check_acting(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a file whose policy or normaliser is missing or not finite."""
    for part in ("policy", "normaliser"):
        if not isinstance(content.get(part), dict):
            raise ValueError(f"{path} is not whole: it has no {part}")
        for name, numbers in content[part].items():
            if not _are_finite(numbers):
                raise ValueError(f"{path}: {part} {name} holds numbers that are not finite")


def _are_finite(numbers: Any) -> bool:
    try:
        return bool(torch.isfinite(torch.as_tensor(numbers)).all())
    except (TypeError, ValueError, RuntimeError):  # no numbers at all
        return False


def to_tensors(tree: Any) -> Any:
    """Nested dicts and lists with NumPy arrays as tensors, for `torch.save`."""
    return _convert(tree, np.ndarray, lambda array: torch.from_numpy(array.copy()))


def to_arrays(tree: Any) -> Any:
    """The inverse of `to_tensors`."""
    return _convert(tree, torch.Tensor, lambda tensor: tensor.numpy().copy())


def _convert(tree: Any, kind: type, change: Any) -> Any:
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _convert(branch, kind, change) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [_convert(branch, kind, change) for branch in tree]
    return tree.item() if isinstance(tree, np.generic) else tree


def _torch_bytes(content: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def _append(path: Path, content: bytes) -> None:
    """Add to a file, and wait until the disk has it."""
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    text = path.read_text(encoding="utf-8", errors="replace")
    whole_rows = text[: text.rfind("\n") + 1]  # the last one may be half written
    if not whole_rows:
        raise ValueError(f"{path} has no rows yet")
    try:
        return pd.read_csv(io.StringIO(whole_rows), float_precision="round_trip")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def provenance(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`versions` and `git_revision` of all that made a run, from its `config.json`: the first, and
    each other one that it was resumed with."""
    return [config, *config.get("resumed", [])]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers of a run depend on."""
    packages = ("kfcpo-course", "torch", "numpy", "mujoco", "gymnasium", "safety-gymnasium")
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        name: _version(name) for name in packages
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_revision() -> str | None:
    """Revision of the checkout that the library runs from; `+changes` if it was edited."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        edited = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.CalledProcessError):
        return None
