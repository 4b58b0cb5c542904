"""The run folder: what is damaged, foreign or full is named, executes nothing, loses nothing."""

import errno
import importlib.metadata
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import content, files, in_child, needs_fork, start_child, tiny, wait_for

import kfcpo_lib.runs
from kfcpo_lib import train
from kfcpo_lib.runs import (
    RunWriter,
    provenance,
    read_checkpoint,
    read_config,
    read_episodes,
    read_minibatches,
    read_policy,
    read_progress,
    read_train_config,
    to_arrays,
    to_tensors,
    versions,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    list(train(tiny(folder)))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refuses(folder: Path, *words: str, kind: type[Exception] = ValueError, **changes: Any) -> None:
    """Resuming is refused in these words, and no file is changed."""
    before = files(folder)
    config = tiny(folder, **{"total_steps": 2400} | changes)
    with pytest.raises(kind, match=".*".join(map(re.escape, words))):
        train(config, resume=True)
    assert files(folder) == before


# ---------------------------------------------------------------------------- what a run holds


def test_a_run_holds_what_it_promises(finished: Path) -> None:
    assert set(files(finished)) == {
        "config.json", "progress.csv", "episodes.csv", "minibatches.csv", "policy.pt",
        "checkpoint.pt", "snapshots/policy_000000600.pt", "snapshots/policy_000001200.pt",
    }  # fmt: skip
    config = read_config(finished)
    assert config["settings"]["margin_lambda"] == 0.8
    assert config["versions"]["torch"] == importlib.metadata.version("torch")
    assert "git_revision" in config
    assert str(finished) not in (finished / "config.json").read_text()


def test_a_run_names_all_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, revision in enumerate(("first", "first", "second", "third", "third"), start=1):
        monkeypatch.setattr(kfcpo_lib.runs, "git_revision", lambda revision=revision: revision)
        list(train(tiny(tmp_path / "run", total_steps=200 * steps), resume=True))
    config = read_config(tmp_path / "run")
    assert [origin["git_revision"] for origin in provenance(config)] == ["first", "second", "third"]
    assert [origin["after_epoch"] for origin in config["resumed"]] == [2, 3]
    assert all(origin["versions"] == versions() for origin in provenance(config))


def test_a_stored_configuration_is_read_back_equal(finished: Path) -> None:
    assert read_train_config(finished) == tiny(finished)
    assert read_train_config(finished, seed=5) == tiny(finished, seed=5)


def test_tables_are_read_back_as_reported(tmp_path: Path) -> None:
    reports = list(train(tiny(tmp_path)))
    table = read_progress(tmp_path)
    np.testing.assert_array_equal(table["kl"], [report.kl for report in reports])
    episodes = [episode for report in reports for episode in report.episodes]
    assert read_episodes(tmp_path)["episode_cost"].tolist() == [e.episode_cost for e in episodes]
    details = [(report.epoch, m.kl) for report in reports for m in report.details]
    minibatches = read_minibatches(tmp_path)
    assert list(zip(minibatches["epoch"], minibatches["kl"], strict=True)) == details


def test_the_last_policy_is_the_last_snapshot_and_the_one_in_the_checkpoint(finished: Path) -> None:
    last, snapshot = read_policy(finished), read_policy(finished, "snapshots/policy_000001200.pt")
    saved = read_checkpoint(finished)
    for name, weights in last["policy"].items():
        assert torch.equal(weights, snapshot["policy"][name])
        assert torch.equal(weights, saved["policy"][name])
    assert last["hidden_sizes"] == [8]


def test_a_half_written_last_row_is_not_read(run: Path) -> None:
    whole = read_progress(run)
    with open(run / "progress.csv", "a") as file:
        file.write("7,1400,0.1")
    assert read_progress(run).equals(whole)


def test_arrays_survive_the_way_through_tensors() -> None:
    tree = {"a": [np.arange(3), {"b": np.array([True])}], "c": 1, "d": "x", "e": np.float64(2.5)}
    back = to_arrays(to_tensors(tree))
    np.testing.assert_array_equal(back["a"][0], [0, 1, 2])
    assert back["a"][1]["b"].dtype == bool
    assert (back["c"], back["d"], back["e"], type(back["e"])) == (1, "x", 2.5, float)


@pytest.mark.parametrize("read", [read_progress, read_episodes, read_minibatches, read_config])
def test_reading_where_there_is_no_run_names_the_place(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}.*(does not exist|is not a run)"):
        read(tmp_path)


def test_an_empty_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").touch()
    with pytest.raises(ValueError, match=r"progress\.csv has no rows yet"):
        read_progress(tmp_path)


# ------------------------------------------------------------------------- damaged checkpoints


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(share: float, run: Path) -> None:
    path = run / "checkpoint.pt"
    os.truncate(path, int(path.stat().st_size * share))
    refuses(run, str(path), "is damaged or not a file of kfcpo_lib")


@pytest.mark.parametrize("name", ["checkpoint.pt", "policy.pt"])
def test_damaged_bytes_are_refused_or_of_no_consequence(name: str, run: Path) -> None:
    """Torch itself reads flipped bits of a tensor without a word."""
    path, draw = run / name, random.Random(0)
    read = read_checkpoint if name == "checkpoint.pt" else read_policy
    original, expected = path.read_bytes(), repr(read(run))
    refused = 0
    for _ in range(40):
        damaged = bytearray(original)
        place = draw.randrange(len(damaged))
        damaged[place] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            assert repr(read(run)) == expected  # padding between the parts of the file
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 20
    path.write_bytes(original[:500] + draw.randbytes(200) + original[700:])
    with pytest.raises(ValueError, match="is damaged or not a file of kfcpo_lib"):
        read(run)


class Explosive:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["checkpoint.pt", "policy.pt"])
@pytest.mark.parametrize("write", [pickle.dumps, torch_bytes])
def test_a_file_that_would_execute_code_is_refused_and_does_not(
    name: str, write: Callable[[Any], bytes], run: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    form = read_checkpoint(run)["format"]
    (run / name).write_bytes(write({"format": form, "policy": Explosive(proof)}))
    with pytest.raises(ValueError, match="is damaged or not a file of kfcpo_lib"):
        (read_checkpoint if name == "checkpoint.pt" else read_policy)(run)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Explosive(proof)))
    assert proof.exists()  # the pickle is as dangerous as it says


@pytest.mark.parametrize("value", [{"weights": torch.zeros(3)}, [1, 2], torch.zeros(2), "words"])
def test_another_programs_torch_file_is_refused(value: Any, run: Path) -> None:
    torch.save(value, run / "checkpoint.pt")
    refuses(run, "checkpoint.pt is not a 'kfcpo_lib checkpoint 2' file: its format is None")


def test_a_policy_in_place_of_the_checkpoint_is_refused(run: Path) -> None:
    shutil.copy(run / "policy.pt", run / "checkpoint.pt")
    refuses(run, "checkpoint.pt is not a 'kfcpo_lib checkpoint", "its format is 'kfcpo_lib policy")


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"hidden_sizes": (4,)}, {"algorithm": "trpo", "rule": {}}]
)
def test_the_checkpoint_of_another_run_is_refused(
    changes: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    list(train(tiny(tmp_path / "other", total_steps=200, **changes)))
    shutil.copy(tmp_path / "other" / "checkpoint.pt", run / "checkpoint.pt")
    refuses(run, "started otherwise", f"{next(iter(changes))} was")


@pytest.mark.parametrize(
    "part", ["settings", "epoch", "table_rows", "policy", "normaliser", "critics", "knobs", "env",
             "optimiser", "rule", "streams", "episodes", "obs", "spoilt_epochs"]
)  # fmt: skip
@pytest.mark.parametrize("put", ["nothing", "words", "numbers"])
def test_a_checkpoint_with_a_missing_or_wrong_part_is_refused(
    part: str, put: str, run: Path
) -> None:
    state = read_checkpoint(run)
    del state[part]
    if put != "nothing":
        state[part] = "words" if put == "words" else {"a": torch.ones(3), "b": [1.5]}
    torch.save(state, run / "checkpoint.pt")
    refuses(run, "started otherwise" if (part, put) == ("settings", "numbers") else "checkpoint.pt")


@pytest.mark.parametrize("rows", [-1, 0.5, "3", None])
def test_a_checkpoint_cannot_cut_tables_where_it_likes(rows: Any, run: Path) -> None:
    state = read_checkpoint(run)
    state["table_rows"]["progress.csv"] = rows
    torch.save(state, run / "checkpoint.pt")
    refuses(run, "checkpoint.pt is not whole")


def test_a_checkpoint_cannot_reach_other_files(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("a\nb\nc\n")
    state = read_checkpoint(run)
    state["table_rows"]["../precious"] = 0
    torch.save(state, run / "checkpoint.pt")
    refuses(run, "checkpoint.pt is not whole")
    assert (tmp_path / "precious").read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["checkpoint.pt", "policy.pt"])
@pytest.mark.parametrize(("part", "key"), [("policy", "log_std"), ("normaliser", "mean")])
def test_a_policy_with_a_nan_is_refused(name: str, part: str, key: str, run: Path) -> None:
    read = read_checkpoint if name == "checkpoint.pt" else read_policy
    state = read(run)
    state[part][key][0] = float("nan")
    torch.save(state, run / name)
    with pytest.raises(ValueError, match=f"{part} {key} holds numbers that are not finite"):
        read(run)


# -------------------------------------------------------------------- damaged tables and config


@pytest.mark.parametrize("name", ["progress.csv", "episodes.csv", "minibatches.csv"])
@pytest.mark.parametrize("left", ["nothing", "no file", "a byte less", "a row less"])
def test_a_shortened_table_is_refused(name: str, left: str, run: Path) -> None:
    text = (run / name).read_text()
    shorter = {"nothing": "", "a byte less": text[:-1]}.get(left, text[: text[:-1].rfind("\n") + 1])
    (run / name).write_text(shorter)
    if left == "no file":
        (run / name).unlink()
    refuses(run, f"{name} has", "the checkpoint counted", "shortened")


def test_what_was_written_after_the_checkpoint_is_taken_away(run: Path, finished: Path) -> None:
    for name in ("progress.csv", "episodes.csv", "minibatches.csv"):
        with open(run / name, "ab") as file:
            file.write(b"7,1400,0.1\n8,16")
    (run / ".checkpoint.pt.part").write_bytes(b"half")
    list(train(tiny(run, total_steps=1400), resume=True))
    rows = read_progress(run)
    assert rows["env_steps"].tolist() == [200, 400, 600, 800, 1000, 1200, 1400]
    assert len(read_minibatches(run)) == 14
    assert not list(run.glob("*.part"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"settings": 3}', "\x00\x01", '{"settings": {"seed": 0}}']
)
def test_a_damaged_configuration_is_refused(text: str, run: Path) -> None:
    (run / "config.json").write_text(text)
    refuses(run, str(run))


@pytest.mark.parametrize(
    ("name", "value"), [("speed", 3), ("kl_limit", -1), ("hidden_sizes", 5), ("rule", 3)]
)
def test_a_stored_setting_that_is_not_allowed_is_named(name: str, value: Any, run: Path) -> None:
    stored = read_config(run)
    stored["settings"][name] = value
    (run / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=name):
        read_train_config(run)


@pytest.mark.parametrize("missing", ["config.json", "checkpoint.pt"])
def test_a_run_that_lost_a_file_is_not_started_over(missing: str, run: Path) -> None:
    (run / missing).unlink()
    reason = "it has no config.json" if missing == "config.json" else "no checkpoint.pt"
    refuses(run, str(run), reason)


@pytest.mark.parametrize("left", ["config.json", "progress.csv", "policy.pt", "checkpoint.pt"])
def test_a_folder_with_any_part_of_a_run_is_not_written_by_another(left: str, run: Path) -> None:
    for name in ("config.json", "progress.csv", "policy.pt", "checkpoint.pt"):
        if name != left:
            (run / name).unlink()
    before = files(run)
    with pytest.raises(FileExistsError, match=rf"holds a run already \(.*{left}.*--resume"):
        train(tiny(run, seed=1))
    assert files(run) == before


# ------------------------------------------------------------------------- full and read-only disks


def test_a_place_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match=r"cannot write .*file/run.*name a writable folder"):
        train(tiny(tmp_path / "file" / "run"))
    with pytest.raises(OSError, match=r"cannot write .*file.*name a writable folder"):
        train(tiny(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(OSError, match=r"cannot write /proc/kfcpo_run.*name a writable folder"):
        train(tiny(Path("/proc/kfcpo_run")))


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_the_start_is_named(
    function: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, function, failing(code, after=0))
    with pytest.raises(OSError, match=r"cannot write .*config.json: .*nothing has been trained"):
        train(tiny(tmp_path))
    assert files(tmp_path) == {}


def failing(code: int, after: int, original: Callable[..., Any] = lambda *_: None) -> Any:
    """A function of `os` that fails from the `after`-th call on."""
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return original(*arguments)

    return call


@pytest.mark.parametrize(
    ("function", "after"), [("fsync", n) for n in range(1, 8)] + [("replace", n) for n in (1, 2, 3)]
)
def test_a_disk_that_fills_up_at_any_write_stops_with_advice_and_can_be_resumed(
    function: str, after: int, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing(errno.ENOSPC, after, getattr(os, function)))
        with pytest.raises(OSError, match=r"No space left on device; (the run is|nothing)") as stop:
            list(train(tiny(tmp_path)))
    assert stop.value.errno == errno.ENOSPC
    assert not list(tmp_path.glob(".*.part"))
    list(train(tiny(tmp_path), resume=True))
    assert content(tmp_path) == content(finished)


@needs_fork
@pytest.mark.parametrize("size", [1, 900, 2_000, 30_000])
def test_a_real_limit_of_file_sizes_is_met_with_advice_and_loses_nothing(
    size: int, tmp_path: Path, finished: Path
) -> None:
    def job() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OSError, match=r"cannot write .*File too large; (the run|nothing)"):
            list(train(tiny(tmp_path)))

    assert in_child(job) == 0
    list(train(tiny(tmp_path), resume=True))
    assert content(tmp_path) == content(finished)


def test_a_table_row_that_does_not_fit_leaves_no_half_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = train(tiny(tmp_path))
    next(reports)
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC, 0))
    with pytest.raises(OSError, match=r"progress\.csv: No space .* safe up to epoch 1: make room"):
        next(reports)
    assert files(tmp_path) == before


# --------------------------------------------------------------------------------- one at a time


def test_two_trainings_do_not_write_one_folder(tmp_path: Path) -> None:
    reports = train(tiny(tmp_path))
    next(reports)
    before = files(tmp_path)
    for resume in (True, False):
        with pytest.raises(BlockingIOError, match=f"{tmp_path} is being written by another"):
            train(tiny(tmp_path), resume=resume)
    assert files(tmp_path) == before
    del reports
    assert next(train(tiny(tmp_path), resume=True)).epoch == 2


@needs_fork
def test_the_lock_holds_between_processes_and_dies_with_its_owner(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()

    def hold() -> None:
        reports = train(tiny(tmp_path))
        next(reports)
        os.write(write_end, b".")
        signal.pause()

    child = start_child(hold)
    try:
        assert os.read(read_end, 1) == b"."
        with pytest.raises(BlockingIOError, match="another training"):
            train(tiny(tmp_path), resume=True)
    finally:
        os.kill(child, signal.SIGKILL)
        assert wait_for(child) == -signal.SIGKILL
    assert next(train(tiny(tmp_path), resume=True)).epoch == 2


def test_a_drive_without_locks_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK, 0))
    assert next(train(tiny(tmp_path))).epoch == 1


def test_a_refused_folder_is_not_kept_locked(run: Path) -> None:
    with pytest.raises(FileExistsError):
        RunWriter.open(tiny(run), resume=False)
    RunWriter.open(tiny(run), resume=True).close()
    assert kfcpo_lib.runs.count_rows(run / "progress.csv") == 6
