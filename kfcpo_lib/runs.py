"""A run's folder: written atomically, read without executing anything, resumed to the same bytes.

`config.json` (settings and versions), `progress.csv` (a row an epoch), `episodes.csv`,
`minibatches.csv`, `policy.pt`, `snapshots/`, and `checkpoint.pt` (all that resuming needs).
"""

import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kfcpo_lib.records import EpochReport, TrainConfig, config_to_dict

CHECKPOINT_FORMAT = "kfcpo_lib checkpoint 1"
POLICY_FORMAT = "kfcpo_lib policy 1"
TABLES = ("progress.csv", "episodes.csv", "minibatches.csv")
FREE_TO_CHANGE = ("total_steps", "run_dir", "env_threads", "device", "policy_snapshots")
"""Settings in which a resumed run may differ from what it was started with."""


class RunWriter:
    """Writes one run's folder. `epoch` is the last one that is safe on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epoch = 0

    @classmethod
    def create(cls, config: TrainConfig) -> "RunWriter":
        """A new folder with its `config.json`.

        Raises:
            FileExistsError: if the folder holds a run already.
            OSError: if it cannot be written.
        """
        writer = cls(Path(str(config.run_dir)))
        if (writer.folder / "config.json").exists():
            raise FileExistsError(
                f"{writer.folder} holds a run already: resume it (--resume) or name another folder"
            )
        writer._write("config.json", _config_json(config))
        return writer

    @classmethod
    def reopen(cls, config: TrainConfig) -> tuple["RunWriter", dict[str, Any] | None]:
        """The folder of an interrupted run, and its last checkpoint; nothing is changed yet.

        None stands for a run that was interrupted before its first checkpoint.

        Raises:
            ValueError: if the configuration or the checkpoint does not fit the run.
        """
        writer = cls(Path(str(config.run_dir)))
        check_same_run(config, read_config(writer.folder)["settings"])
        if not (writer.folder / "checkpoint.pt").exists():
            return writer, None
        checkpoint = read_checkpoint(writer.folder)
        check_same_run(config, checkpoint["settings"])
        for name, size in checkpoint["table_sizes"].items():
            if writer._size(name) < size:
                raise ValueError(
                    f"{writer.folder / name} has {writer._size(name)} bytes but the checkpoint "
                    f"counted {size}: the table was shortened after it was written"
                )
        return writer, checkpoint

    def cut_back(self, config: TrainConfig, checkpoint: Mapping[str, Any] | None) -> None:
        """Take away what was written after the checkpoint, and go on from there."""
        sizes = checkpoint["table_sizes"] if checkpoint else dict.fromkeys(TABLES, 0)
        self.epoch = checkpoint["epoch"] if checkpoint else 0
        for name, size in sizes.items():
            if self._size(name) > size:
                os.truncate(self.folder / name, size)
        self._write("config.json", _config_json(config))

    def append(self, report: EpochReport) -> None:
        """Add one epoch to the tables. It counts once the checkpoint after it is written."""
        self._add_rows("progress.csv", [report.row()])
        self._add_rows("episodes.csv", [asdict(episode) for episode in report.episodes])
        epoch = {"epoch": report.epoch}
        self._add_rows("minibatches.csv", [epoch | asdict(m) for m in report.details])

    def save_checkpoint(self, config: TrainConfig, state: Mapping[str, Any]) -> None:
        """Replace `checkpoint.pt` by this state, in one piece; `state["epoch"]` is safe then."""
        sizes = {name: self._size(name) for name in TABLES}
        settings = config_to_dict(config)
        header = {"format": CHECKPOINT_FORMAT, "table_sizes": sizes, "settings": settings}
        self._write("checkpoint.pt", _torch_bytes(header | dict(state)))
        self.epoch = state["epoch"]

    def save_policy(self, policy: Mapping[str, Any], name: str = "policy.pt") -> None:
        """Replace a policy file, in one piece."""
        self._write(name, _torch_bytes({"format": POLICY_FORMAT} | dict(policy)))

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def _add_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        if not self._size(name):
            table.writeheader()
        table.writerows(rows)
        try:
            with open(self.folder / name, "ab") as file:
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failure(name, error) from error

    def _write(self, name: str, content: bytes) -> None:
        """Write a file in one piece: a reader, or a crash, meets the old one or the new one."""
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._failure(name, error) from error

    def _failure(self, name: str, error: OSError) -> OSError:
        saved = f"the run is safe up to epoch {self.epoch}: make room and resume it (--resume)"
        advice = saved if self.epoch else "nothing has been trained yet: name a writable folder"
        reason = error.strerror or str(error)
        return OSError(error.errno, f"cannot write {self.folder / name}: {reason}; {advice}")


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
    except TypeError as error:
        raise ValueError(f"{Path(folder) / 'config.json'}: {error}") from error


def check_same_run(config: TrainConfig, stored: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the settings in which `config` differs from the stored ones."""
    now = config_to_dict(config)
    differences = [
        f"{name} was {stored.get(name)!r}, now {now[name]!r}"
        for name in now
        if name not in FREE_TO_CHANGE and now[name] != stored.get(name)
    ]
    if differences:
        raise ValueError(f"{config.run_dir} was started otherwise: {'; '.join(differences)}")


def read_progress(folder: str | Path) -> pd.DataFrame:
    """`progress.csv` as a table, one row an epoch."""
    return _read_table(Path(folder) / "progress.csv")


def read_episodes(folder: str | Path) -> pd.DataFrame:
    """`episodes.csv` as a table, one row a finished whole episode."""
    return _read_table(Path(folder) / "episodes.csv")


def read_minibatches(folder: str | Path) -> pd.DataFrame:
    """`minibatches.csv` as a table, one row a trial step."""
    return _read_table(Path(folder) / "minibatches.csv")


def read_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The checkpoint of a run, checked; see `read_torch`."""
    return read_torch(Path(folder) / "checkpoint.pt", CHECKPOINT_FORMAT)


def read_policy(folder: str | Path, name: str = "policy.pt") -> dict[str, Any]:
    """A stored policy of a run, checked; see `read_torch`."""
    return read_torch(Path(folder) / name, POLICY_FORMAT)


def read_torch(path: Path, expected_format: str) -> dict[str, Any]:
    """A file written by this module, read without executing anything in it.

    Raises:
        ValueError: if it is missing, damaged, of another program, or holds numbers that are
            not finite.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports a damaged file in a dozen ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or not a file of kfcpo_lib: {reason}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != expected_format:
        raise ValueError(f"{path} is not a {expected_format!r} file: its format is {found!r}")
    for name, tensor in content["policy"].items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite")
    return content


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


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _config_json(config: TrainConfig) -> bytes:
    settings = config_to_dict(config)
    settings.pop("run_dir")
    content = {"settings": settings, "versions": versions(), "git_revision": git_revision()}
    return (json.dumps(content, indent=2) + "\n").encode()


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
