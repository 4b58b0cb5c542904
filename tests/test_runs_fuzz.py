"""Whatever a run's files hold, reading and resuming end in numbers or in a sentence.

No other exception, nothing executed, no file changed.
"""

import contextlib
import io
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import files, tiny

from kfcpo_lib import runs, train

READERS = {
    "config.json": [runs.read_config, runs.read_train_config],
    "progress.csv": [runs.read_progress],
    "episodes.csv": [runs.read_episodes],
    "minibatches.csv": [runs.read_minibatches],
    "policy.pt": [runs.read_policy],
    "checkpoint.pt": [runs.read_checkpoint],
}
few = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
very_few = settings(few, max_examples=20)
numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole")
    list(train(tiny(folder)))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where an example puts its copy of the run."""
    return tmp_path / "run"


def read_all(run: Path, whole: Path, name: str, content: bytes) -> None:
    """Put `content` in the place of a run's file, read it and resume the run.

    Each ends in a result or a sentence; what is refused stays as it is.
    """
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run)
    (run / name).write_bytes(content)
    before = files(run)
    for read in READERS[name]:
        with said(run):
            assert isinstance(read(run), dict | pd.DataFrame | runs.TrainConfig)
    with said(run):
        train(tiny(run, total_steps=2400), resume=True).close()
        shutil.rmtree(run)
    assert not run.exists() or files(run) == before


@contextlib.contextmanager
def said(run: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        assert str(run) in str(error)
        assert len(str(error).splitlines()) == 1


@st.composite
def damage(draw: st.DrawFn) -> Any:
    """A way to damage bytes: other bytes, a piece out, a piece twice, or a piece of noise."""
    kind = draw(st.sampled_from(["other", "out", "twice", "noise"]))
    start, length = draw(st.floats(0, 1)), draw(st.integers(1, 400))
    noise = draw(st.binary(max_size=40))

    def change(content: bytes) -> bytes:
        first = int(start * len(content))
        head, piece, tail = content[:first], content[first:][:length], content[first + length :]
        middle = {"other": noise, "out": b"", "twice": piece + piece, "noise": noise + piece}[kind]
        return noise if kind == "other" and start == 1 else head + middle + tail

    return change


@pytest.mark.parametrize("name", READERS)
@given(change=damage())
@few
def test_damaged_bytes(name: str, change: Any, run: Path, whole: Path) -> None:
    read_all(run, whole, name, change((whole / name).read_bytes()))


@given(tree=trees, setting=st.sampled_from([*vars(tiny("x"))]))
@few
def test_any_json_as_the_configuration(tree: Any, setting: str, run: Path, whole: Path) -> None:
    read_all(run, whole, "config.json", json.dumps(tree).encode())
    stored = runs.read_config(whole)
    stored["settings"][setting] = tree
    read_all(run, whole, "config.json", json.dumps(stored).encode())


@given(table=st.lists(st.lists(st.text(max_size=6) | numbers, max_size=4), max_size=6))
@few
def test_any_table(table: list[list[Any]], run: Path, whole: Path) -> None:
    text = "".join(",".join(map(str, row)) + "\n" for row in table)
    read_all(run, whole, "progress.csv", text.encode("utf-8", "surrogatepass"))


def parts(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a checkpoint."""
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, branch in branches:
        yield (*path, key)
        if isinstance(branch, dict | list):
            yield from parts(branch, (*path, key))


@given(data=st.data(), value=trees)
@very_few
def test_any_part_of_a_checkpoint_replaced(
    data: st.DataObject, value: Any, run: Path, whole: Path
) -> None:
    checkpoint = runs.read_checkpoint(whole)
    *above, key = data.draw(st.sampled_from([*parts(checkpoint)]))
    branch = checkpoint
    for step in above:
        branch = branch[step]
    branch[key] = torch.tensor(value) if isinstance(value, float) else value
    file = io.BytesIO()
    torch.save(checkpoint, file)
    read_all(run, whole, "checkpoint.pt", file.getvalue())


class Explosive:
    """What writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


@given(data=st.data(), zipped=st.booleans(), name=st.sampled_from(["checkpoint.pt", "policy.pt"]))
@very_few
def test_nothing_in_a_file_is_executed(
    data: st.DataObject, zipped: bool, name: str, run: Path, whole: Path
) -> None:
    proof, file = run.parent / "executed", io.BytesIO()
    content = runs.read_checkpoint(whole) if name == "checkpoint.pt" else runs.read_policy(whole)
    key = data.draw(st.sampled_from([*content]))
    content[key] = Explosive(proof)
    (torch.save if zipped else pickle.dump)(content, file)
    read_all(run, whole, name, file.getvalue())
    assert not proof.exists()
