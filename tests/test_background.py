"""A training in the background: the same numbers, steered, and never left behind."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import nbclient
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_runs import TINY, SpoiltPointMass, content, spoilt, tiny

import kfcpo_lib.runs
from kfcpo_lib import background, worker
from kfcpo_lib.background import ENDED, POSSIBLE, LiveTraining
from kfcpo_lib.records import Knobs, config_to_dict
from kfcpo_lib.training import train

__all__ = ["spoilt"]

LIMIT = 600  # seconds; ends a test that would never end


def wait_until(reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def reach(training: LiveTraining, state: str) -> None:
    wait_until(lambda: training.state in (state, *ENDED))
    assert (training.state, training.words) == (state, "")


# ------------------------------------------------------------------------------------- the worker


def heard() -> tuple[list[dict[str, Any]], Callable[..., None]]:
    events: list[dict[str, Any]] = []
    return events, lambda event, **details: events.append({"event": event} | details)


def test_steering_obeys_all_that_has_come_and_waits_while_paused() -> None:
    events, tell = heard()
    steering = worker.Steering(Knobs(), tell)
    assert steering.may_go_on() and steering.may_go_on()
    for order in ({"order": "pause"}, {"order": "knobs", "margin_lambda": 0.5}, {"order": "step"}):
        steering.orders.put(order)
    assert steering.may_go_on()
    assert steering.knobs == Knobs(margin_lambda=0.5) and events == []
    threading.Timer(0.05, steering.orders.put, [{"order": "stop"}]).start()
    assert not steering.may_go_on()
    assert events == [{"event": "paused"}]


def job(folder: Path, **changes: Any) -> dict[str, Any]:
    config = tiny(folder, **changes)
    training = {"config": config_to_dict(config), "knobs": vars(config.knobs())}
    return {"job": "train", "resume": False, "epochs_allowed": None} | training


def test_numbers_that_are_not_finite_are_told_in_words(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.at = frozenset(range(51, 1_000))  # from the second epoch on
    events, tell = heard()
    assert worker.do(tell, SimpleQueue(), **job(tmp_path / "run")) == 1
    assert events[-1]["event"] == "failed"
    assert "not finite" in events[-1]["words"] and "is safe up to epoch" in events[-1]["words"]


def test_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = kfcpo_lib.runs._append

    def fill(path: Path, content: bytes) -> None:
        if path.name == "progress.csv" and path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(kfcpo_lib.runs, "_append", fill)
    events, tell = heard()
    assert worker.do(tell, SimpleQueue(), **job(tmp_path / "run")) == 1
    assert "No space left on device; the run is safe up to epoch 1" in events[-1]["words"]


def test_bad_job_is_told_in_words(tmp_path: Path) -> None:
    events, tell = heard()
    bad = job(tmp_path / "run")
    bad["config"]["env_id"] = "SafetyPointGaol1-v0"
    assert worker.do(tell, SimpleQueue(), **bad) == 1
    assert "did you mean SafetyPointGoal1-v0" in events[-1]["words"]
    assert worker.do(tell, SimpleQueue(), "evaluate", wrong=1) == 1
    assert "TypeError" in events[-1]["words"]
    assert not (tmp_path / "run" / "config.json").exists()


# -------------------------------------------------------------------- every order in every state


class SilentJob:
    """Stands in for a process: remembers its orders, says nothing by itself."""

    pid = 1

    def __init__(self, hear: Callable[[dict[str, Any]], None], **job: Any) -> None:
        self.hear, self.orders = hear, [job]

    def order(self, **line: Any) -> None:
        self.orders.append(line)

    def close(self, patience: float = 0.0) -> None:
        self.hear({"event": "stopped"})


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "Job", SilentJob)


ROADS = {
    "idle": [],
    "starting": ["start"],
    "running": ["start", "ready"],
    "pausing": ["start", "ready", "pause"],
    "paused": ["start", "ready", "pause", "paused"],
    "stopping": ["start", "ready", "stop"],
    "stopped": ["start", "ready", "stop", "stopped"],
    "finished": ["start", "ready", "finished"],
    "failed": ["start", "failed"],
}
LEADS_TO = {"start": "starting", "go": "running", "pause": "pausing", "step": "pausing"}


def travel(folder: Path, road: list[str]) -> LiveTraining:
    training = LiveTraining()
    for stop in road:
        if stop in ("start", "pause", "stop"):
            order(training, stop, folder)
        else:
            training._hear({"event": stop, "words": "a reason"})  # as its process would say
    return training


def order(training: LiveTraining, what: str, folder: Path) -> None:
    if what == "start":
        training.start(tiny(folder))
    else:
        getattr(training, what)()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("state", ROADS)
@pytest.mark.parametrize("what", ["start", "go", "pause", "step", "stop"])
def test_every_order_in_every_state(state: str, what: str, tmp_path: Path) -> None:
    training = travel(tmp_path, ROADS[state])
    assert training.state == state
    if what not in POSSIBLE[state]:
        with pytest.raises(ValueError, match=f"cannot {what} a training that is {state}"):
            order(training, what, tmp_path)
        assert training.state == state
        return
    order(training, what, tmp_path)
    assert training.state == LEADS_TO.get(what, "stopping")
    sent = training._job.orders[-1]
    assert sent.get("order", sent.get("job")) == ("train" if what == "start" else what)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("state", ROADS)
def test_knobs_turn_in_every_state(state: str, tmp_path: Path) -> None:
    training = travel(tmp_path, ROADS[state])
    training.turn(margin_lambda=0.25)
    assert training.knobs.margin_lambda == 0.25
    if state != "idle":
        assert training._job.orders[-1] == {"order": "knobs", "margin_lambda": 0.25}
    with pytest.raises(ValueError, match=r"margin_lambda must be in \(0, 1\], got 2"):
        training.turn(margin_lambda=2)
    with pytest.raises(AttributeError, match="there is no knob 'seed'"):
        training.turn(seed=1)


@pytest.mark.usefixtures("silent")
def test_late_news_of_a_pause_does_not_stop_the_clock(tmp_path: Path) -> None:
    training = travel(tmp_path, ROADS["pausing"])
    training.go()
    training._hear({"event": "paused"})
    assert training.state == "running"


def test_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs run_dir"):
        LiveTraining().start(tiny())
    with pytest.raises(ValueError, match=r"is not a run: it has no config\.json"):
        LiveTraining().resume(tmp_path)
    list(train(tiny(tmp_path / "run")))
    with pytest.raises(ValueError, match="is finished: it has its 1,200 steps"):
        LiveTraining().resume(tmp_path / "run")


# ------------------------------------------------------------------------------- with a process


@pytest.fixture
def training() -> Iterator[LiveTraining]:
    training = LiveTraining()
    yield training
    training.close()


def test_steered_training_gives_the_numbers_of_the_loop(
    tmp_path: Path, training: LiveTraining
) -> None:
    """Two single epochs, a turn after the first, a stop, and the rest after resuming."""
    threads = threading.active_count()
    training.start(tiny(tmp_path / "live"), one_epoch=True)
    assert training.pid is not None and os.getsid(training.pid) != os.getsid(0)
    reach(training, "paused")
    assert training.epoch == 1
    training.turn(margin_lambda=0.5, steepness_k=1.0)
    training.step()
    reach(training, "paused")
    training.turn(kl_limit=0.02)  # while paused, and no epoch follows that would save it
    training.stop()
    reach(training, "stopped")
    training.close()
    assert threading.active_count() == threads
    training.turn(cost_limit=9.0)
    training.resume(tmp_path / "live")
    assert training.knobs.margin_lambda == 0.5 and training.epoch == 2
    reach(training, "finished")
    assert training.epoch == 6

    knobs, plain = Knobs(), tiny(tmp_path / "plain")
    for report in train(plain, knobs):
        if report.epoch == 1:
            knobs.margin_lambda, knobs.steepness_k = 0.5, 1.0
        if report.epoch == 2:
            knobs.kl_limit, knobs.cost_limit = 0.02, 9.0
    assert content(tmp_path / "live") == content(tmp_path / "plain")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_killed_training_says_where_it_is_safe(tmp_path: Path, training: LiveTraining) -> None:
    training.start(tiny(tmp_path / "run"), one_epoch=True)
    reach(training, "paused")
    assert training.pid is not None
    os.kill(training.pid, signal.SIGKILL)
    wait_until(lambda: training.state == "failed")
    assert "killed (SIGKILL)" in training.words
    assert f"{tmp_path / 'run'} is safe up to epoch 1" in training.words


STARTS_AND_WAITS = """
import sys, time
from tiny_runs import tiny
from kfcpo_lib.background import LiveTraining
training = LiveTraining()
training.start(tiny(sys.argv[1], total_steps=200_000_000))
print(training.pid, flush=True)
while True:
    time.sleep(1)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_nothing_is_left_when_the_notebook_dies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-c", STARTS_AND_WAITS, str(folder)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as notebook:
        assert notebook.stdout is not None
        pid = int(notebook.stdout.readline())
        wait_until((folder / "checkpoint.pt").exists)
        notebook.kill()
    wait_until(lambda: not is_alive(pid))
    assert kfcpo_lib.runs.read_checkpoint(folder)["epoch"] >= 1


def is_alive(pid: int) -> bool:
    """A process that has ended but whom nobody has asked for its exit code counts as ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


TRAINS_BESIDE_ANOTHER = """
import time
from pathlib import Path
from kfcpo_lib import TrainConfig, train
from kfcpo_lib.widgets.studio import new_folder

place = Path({place!r})
for report in train(TrainConfig(**{settings!r}, run_dir=str(new_folder(place, "run")))):
    while len([*place.glob("*/progress.csv")]) < 2:
        time.sleep(0.01)
"""


def test_two_notebooks_train_at_once_to_the_numbers_of_one(tmp_path: Path) -> None:
    """Two kernels in one folder: neither ends its first epoch before the other is there."""
    place = tmp_path / "runs"
    source = TRAINS_BESIDE_ANOTHER.format(place=str(place), settings=TINY)
    notebooks = [new_notebook(cells=[new_code_cell(source)]) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        kernels = [nbclient.NotebookClient(notebook, timeout=LIMIT) for notebook in notebooks]
        [*pool.map(nbclient.NotebookClient.execute, kernels)]
    list(train(tiny(tmp_path / "alone")))
    runs = [content(place / name) for name in ("run_1", "run_2")]
    assert runs == [content(tmp_path / "alone")] * 2
