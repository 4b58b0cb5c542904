"""The studio and the replay without a browser: every button, every slider, every state."""

import base64
import math
import os
import sys
import threading
import time

import ipywidgets
import pytest
from test_background import ROADS, SilentJob, travel
from tiny_runs import TINY

from kfcpo_lib import background
from kfcpo_lib.background import POSSIBLE, LiveTraining
from kfcpo_lib.films import NoFilmError
from kfcpo_lib.recordings import Recording, find_runs
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train
from kfcpo_lib.widgets import replay as replay_module
from kfcpo_lib.widgets.replay import Replay
from kfcpo_lib.widgets.studio import GIVE_WAY, STATES, Studio, new_folder, put

LIMIT = 600  # seconds; ends a test that would never end


def wait_until(reached):
    give_up = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def press(widget, name):
    button = widget.buttons[name]
    assert not button.disabled
    button.click()


@pytest.fixture
def studio(tmp_path):
    studio = Studio(tmp_path / "runs", **TINY)
    studio.refresh = 0.05
    yield studio
    studio.close()


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(background, "Job", SilentJob)


# ------------------------------------------------------------------------ the studio, by hand


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("state", POSSIBLE)
def test_only_what_can_be_done_can_be_pressed(state, studio, tmp_path):
    studio.training = travel(tmp_path / "run", ROADS[state])
    studio._allow()
    can = {name for name, button in studio.buttons.items() if not button.disabled}
    ended = state in background.ENDED
    assert can == {*POSSIBLE[state], *(["step"] if ended else [])} - {"resume"}  # there is no run
    assert all(control.disabled != ended for control in studio.choices.values())
    assert STATES[state] in studio.status.value
    assert ("a reason" in studio.status.value) == (state == "failed")


@pytest.mark.usefixtures("silent")
def test_the_page_shows_the_last_state_when_two_come_at_once(studio, monkeypatch):
    """The process stops while the kernel is still busy saying that it will."""
    studio.start()
    studio.training._hear({"event": "ready"})
    hears = threading.Thread(target=studio.training._hear, args=[{"event": "stopped"}])

    def read_slowly(training):
        now = POSSIBLE[training.state]
        if training.state == "stopping" and not hears.ident:
            hears.start()
            hears.join(0.3)
        return now

    monkeypatch.setattr(LiveTraining, "possible", property(read_slowly))
    press(studio, "stop")
    hears.join()
    assert STATES["stopped"] in studio.status.value
    assert not studio.buttons["start"].disabled


@pytest.mark.skipif(sys.platform != "linux", reason="only there has each thread its niceness")
@pytest.mark.usefixtures("silent")
def test_the_pictures_give_way_to_the_training(studio):
    studio.start()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    drawing = studio._thread.native_id
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, drawing) == min(own + GIVE_WAY, 19))
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("state", ["idle", "running", "paused"])
def test_sliders_answer_at_once(state, studio, tmp_path):
    studio.training = travel(tmp_path / "run", ROADS[state])
    turns = {"margin_lambda": 0.5, "steepness_k": 1.0, "kl_limit": 0.02, "cost_limit": 10.0}
    for name, value in turns.items():
        studio.knobs[name].value = value
        assert getattr(studio.training.knobs, name) == value
        answered = "from the next epoch on" in studio.status.value
        assert answered == (state != "idle")


@pytest.mark.usefixtures("silent")
def test_a_training_starts_with_what_was_chosen(studio):
    studio.choices["algorithm"].value = "cpo"
    studio.choices["seed"].value = 7
    studio.choices["total_steps"].value = 2_000
    studio.knobs["margin_lambda"].value = 0.6
    press(studio, "start")
    config = studio.training.config
    assert (config.algorithm, config.seed, config.total_steps) == ("cpo", 7, 2_000)
    assert config.margin_lambda == studio.training.knobs.margin_lambda == 0.6
    assert config.num_envs == TINY["num_envs"]
    assert config.run_dir == str(studio.folder / "cpo_PointMass_1")


def test_the_cost_limit_follows_the_task(studio):
    studio.choices["env_id"].value = "SafetyPointGoal1-v0"
    assert studio.knobs["cost_limit"].value == 25.0
    studio.choices["env_id"].value = "PointMass-v0"
    assert studio.knobs["cost_limit"].value == 10.0


def test_errors_are_said_in_words(studio, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    press(studio, "start")
    assert "File exists" in studio.status.value
    studio._pressed(studio.resume)
    assert "there is no run to resume yet" in studio.status.value


def test_no_slider_stands_between_two_of_its_steps(studio):
    """A browser would move it to one of them, and turn the knob by doing so."""
    put(studio.knobs["steepness_k"], 0.123)
    for slider in studio.knobs.values():
        is_log = isinstance(slider, ipywidgets.FloatLogSlider)
        value = math.log10(slider.value) if is_log else slider.value
        steps = (value - slider.min) / slider.step
        assert steps == pytest.approx(round(steps), abs=1e-6)
    assert studio.knobs["steepness_k"].value == 0.123


def test_folders_of_runs_are_never_shared(tmp_path):
    names = [new_folder(tmp_path, "run").name for _ in range(3)]
    assert names == ["run_1", "run_2", "run_3"]


# ------------------------------------------------------------------- the studio, with a process


def test_live_training_from_start_to_end(studio):
    threads = threading.active_count()
    press(studio, "step")
    wait_until(lambda: studio.training.state == "paused")
    wait_until(lambda: studio.view.stage.value)
    first = bytes(studio.view.instruments.value)
    assert first.startswith(b"\x89PNG")
    studio.knobs["margin_lambda"].value = 0.5
    press(studio, "step")
    wait_until(lambda: studio.training.state == "paused")
    wait_until(lambda: "turned at 200" in studio.view.words.value)
    assert "λ: 0.8 → 0.5" in studio.view.words.value
    assert bytes(studio.view.instruments.value) != first
    press(studio, "stop")
    wait_until(lambda: not studio.buttons["resume"].disabled)
    studio.knobs["margin_lambda"].value = 0.9
    press(studio, "resume")
    assert studio.knobs["margin_lambda"].value == 0.9  # as it is shown
    wait_until(lambda: studio.training.state == "finished")
    wait_until(lambda: not studio._thread.is_alive())
    run = Recording.read(studio.training.config.run_dir)
    assert run.progress["margin_lambda"].tolist() == [0.8, 0.5] + 4 * [0.9]
    assert "1,200 of 1,200" in studio.view.words.value
    studio.close()
    assert threading.active_count() <= threads


def test_a_second_studio_of_the_same_name_takes_the_place_of_the_first(tmp_path):
    first = Studio(tmp_path, **TINY | {"total_steps": 200_000_000})
    other = Studio(tmp_path, name="other", **TINY)
    first.start()
    second = Studio(tmp_path, **TINY)
    assert first.training.state == "stopped" and not first._thread.is_alive()
    assert Studio.open_ones == {"studio": second, "other": other}
    second.close()
    other.close()


# ------------------------------------------------------------------------------------- replay


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    place = tmp_path_factory.mktemp("stored")
    for seed in (0, 1):
        list(train(TrainConfig(**TINY | {"seed": seed, "run_dir": place / f"seed_{seed}"})))
    return place


@pytest.fixture
def replay(stored):
    replay = Replay(lambda: find_runs([stored]))
    yield replay
    replay.close()


def pictures(replay):
    wait_until(lambda: not replay._draws)
    return bytes(replay.view.instruments.value), bytes(replay.view.stage.value)


def test_a_run_is_scrubbed(replay):
    last = pictures(replay)
    assert all(picture.startswith(b"\x89PNG") for picture in last)
    assert replay.epoch.max == replay.epoch.value == 6
    replay.epoch.value = 2
    early = pictures(replay)
    assert early[0] != last[0] and early[1] != last[1]
    assert "step 400" in replay.status.value
    replay.step.value = 100
    assert pictures(replay)[1] != early[1]


def test_two_runs_side_by_side(replay):
    alone = pictures(replay)
    replay.beside.value = [*replay.find().values()][1]
    both = pictures(replay)
    assert both[0] != alone[0] and both[1] != alone[1]
    assert "seed_0: step 1,200" in replay.status.value
    assert "seed_1: step 1,200" in replay.status.value


def test_a_new_run_is_found(stored, tmp_path):
    replay = Replay(lambda: find_runs([tmp_path]))
    assert replay.run.value is None and not replay.buttons["look again"].disabled
    list(train(TrainConfig(**TINY | {"run_dir": tmp_path / "new", "total_steps": 200})))
    press(replay, "look again")
    assert replay.run.value == tmp_path / "new"
    assert pictures(replay)[0].startswith(b"\x89PNG")
    replay.close()


def test_damaged_run_is_said_in_words(stored, tmp_path):
    list(train(TrainConfig(**TINY | {"run_dir": tmp_path / "bad", "total_steps": 200})))
    (tmp_path / "bad" / "policy.pt").write_bytes(b"no policy")
    replay = Replay(lambda: find_runs([tmp_path]))
    wait_until(lambda: "is damaged" in replay.status.value)
    replay.close()


def test_evaluation_in_the_background(replay):
    replay.episodes.value = 4
    press(replay, "Evaluate")
    replay._work.join()
    for words in ("sampled actions, 4 episodes", "mean actions", "95 % intervals", "of 25"):
        assert words in replay.result.value
    assert not replay.buttons["Evaluate"].disabled


def test_film_or_the_reason_why_not(replay, monkeypatch):
    def no_film(*_):
        raise NoFilmError("no film on this machine (no display)")

    press(replay, "Film")
    replay._work.join()
    assert "PointMass-v0 has no film" in replay.result.value
    monkeypatch.setattr(replay_module, "film", no_film)
    press(replay, "Film")
    replay._work.join()
    assert "no film on this machine" in replay.result.value
    monkeypatch.setattr(replay_module, "film", lambda *_: b"a film")
    press(replay, "Film")
    replay._work.join()
    assert base64.b64encode(b"a film").decode() in replay.film.value


def test_an_unforeseen_error_is_told_and_the_buttons_come_back(replay, monkeypatch):
    monkeypatch.setattr(replay_module, "film", lambda *_: {}["film"])
    press(replay, "Film")
    replay._work.join()
    assert "film" in replay.result.value and "..." not in replay.result.value
    assert not replay.buttons["Film"].disabled and not replay.buttons["Evaluate"].disabled


def test_closing_leaves_no_thread(stored):
    threads = threading.active_count()
    replay = Replay(lambda: find_runs([stored]))
    replay.evaluate()
    replay.close()
    assert threading.active_count() == threads


def test_a_closed_model_does_nothing():
    training = LiveTraining()
    training.close()
    assert training.state == "idle" and training.pid is None
