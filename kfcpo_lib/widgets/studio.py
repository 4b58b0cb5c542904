"""The studio: a training in the background, its knobs under your hand, its instruments live."""

import html
import itertools
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets

from kfcpo_lib.algorithms import RULES
from kfcpo_lib.background import ENDED, LiveTraining
from kfcpo_lib.plots.studio import SYMBOLS
from kfcpo_lib.recordings import Recording
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import read_config
from kfcpo_lib.tracks import Track
from kfcpo_lib.widgets.controls import offer, row
from kfcpo_lib.widgets.run_view import RunView

TASKS = {
    "Point Goal": "SafetyPointGoal1-v0",
    "Car Goal": "SafetyCarGoal1-v0",
    "Point Button": "SafetyPointButton1-v0",
    "Car Button": "SafetyCarButton1-v0",
    "point mass (fast)": "PointMass-v0",
}
"""The four of the paper, and the course's own world, whose epochs take a second."""
LIMITS = {"PointMass-v0": 10.0}
"""Cost limit of the tasks where it is not the usual one."""
REFRESH = 1.0
"""Seconds between two pictures."""
DECADES = 1.5
"""How far a logarithmic slider reaches, up and down."""
GIVE_WAY = 10
"""How much nicer than the rest the thread is that draws."""
PACE = 50
"""Steps of the episode from one picture to the next."""
STATES = {
    "idle": "ready",
    "starting": "starting: the simulators are being set up",
    "running": "running",
    "pausing": "pauses after this epoch",
    "paused": "paused",
    "stopping": "stops after this epoch",
    "stopped": "stopped; it can be resumed",
    "finished": "finished",
    "failed": "failed",
}


class Studio(ipywidgets.VBox):  # type: ignore[misc]
    """Train on a task, live: buttons, sliders, instruments.

    The training runs in a process of its own and writes an ordinary run's folder. A second studio
    of the same name takes the place of the first, whose training ends after its epoch.

    Args:
        folder: where the folders of its runs go.
        name: of the studio; several with different names do not disturb each other.
        settings: further settings of `TrainConfig` for every training.
    """

    open_ones: ClassVar[dict[str, "Studio"]] = {}

    def __init__(self, folder: str | Path, name: str = "studio", **settings: Any) -> None:
        if name in self.open_ones:
            self.open_ones[name].close()
        self.open_ones[name] = self
        self.name, self.folder, self.settings = name, Path(folder), settings
        self.refresh = REFRESH
        self.training = LiveTraining(self._news_has_come)
        self.view = RunView()
        start = TrainConfig(**settings)
        self.choices, self.knobs = _choices(start), _knobs(start)
        self.buttons = self._make_buttons()
        self.runs = ipywidgets.Dropdown(description="resume", layout={"width": "24em"})
        self.status = ipywidgets.HTML()
        self.status.add_class("kfcpo-status")
        self._said, self._saying = "", threading.RLock()
        self._news, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._forget()
        self._arrange()
        self._allow()

    def _make_buttons(self) -> dict[str, Any]:
        actions: dict[str, tuple[str, str, Callable[[], None]]] = {
            "start": ("Start", "play", self.start),
            "pause": ("Pause", "pause", self.training.pause),
            "go": ("Go on", "forward", self.training.go),
            "step": ("One epoch", "step-forward", self.one_epoch),
            "stop": ("Stop", "stop", self.training.stop),
            "resume": ("Resume", "repeat", self.resume),
        }
        buttons = {}
        for name, (text, icon, action) in actions.items():
            buttons[name] = ipywidgets.Button(description=text, icon=icon, layout={"width": "9em"})
            buttons[name].on_click(lambda _, action=action: self._pressed(action))
        return buttons

    def _arrange(self) -> None:
        """Listen to the controls, and put them on the page."""
        for knob, slider in self.knobs.items():
            slider.observe(lambda change, knob=knob: self._turned(knob, change["new"]), "value")
            slider.style.description_width, slider.layout.width = "12em", "30em"
        self.choices["env_id"].observe(lambda change: self._task_chosen(change["new"]), "value")
        for control in self.choices.values():
            control.layout.width = "15em"
        choices, knobs = row(*self.choices.values()), row(*self.knobs.values())
        orders = row(*self.buttons.values(), self.runs)
        super().__init__([choices, knobs, orders, self.status, self.view])

    # ------------------------------------------------------------------------------ what one can do

    def start(self, *, one_epoch: bool = False) -> None:
        """Start a new run with the choices and knobs as they stand."""
        chosen = {name: control.value for name, control in self.choices.items()}
        turned = {name: slider.value for name, slider in self.knobs.items()}
        folder = new_folder(self.folder, f"{chosen['algorithm']}_{_word(chosen['env_id'])}")
        config = TrainConfig(**self.settings | chosen | turned, run_dir=str(folder))
        self.training.start(config, one_epoch=one_epoch)
        self._watch()

    def resume(self) -> None:
        """Go on with the run that is chosen, its knobs where they were left."""
        if self.runs.value is None:
            raise ValueError("there is no run to resume yet")
        steps = self.choices["total_steps"].value
        folder = self.folder / self.runs.value
        total = max(steps, read_config(folder)["settings"]["total_steps"])
        self.training.resume(folder, total_steps=total)
        for name, slider in self.knobs.items():
            put(slider, getattr(self.training.knobs, name))
        self._watch()

    def one_epoch(self) -> None:
        """Train a single epoch: of a new run, or of the one that is paused."""
        if self.training.state in ENDED:
            self.start(one_epoch=True)
        else:
            self.training.step()

    def close(self) -> None:
        """End the training after its present epoch, the thread, and the simulators."""
        if self.open_ones.get(self.name) is self:
            del self.open_ones[self.name]
        self._closed.set()
        self._news.set()
        self.training.close()
        if self._thread is not None:
            self._thread.join()
        self.view.close()
        super().close()

    # ------------------------------------------------------------------------------------ answering

    def _pressed(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self._say(str(error))

    def _turned(self, knob: str, value: float) -> None:
        self.training.turn(**{knob: value})
        if self.training.state not in ENDED:
            self._say(f"{SYMBOLS[knob]} = {value:.3g} from the next epoch on")

    def _task_chosen(self, env_id: str) -> None:
        self.knobs["cost_limit"].value = LIMITS.get(env_id, TrainConfig.cost_limit)

    def _say(self, words: str) -> None:
        with self._saying:
            state, more = STATES[self.training.state], f": {words}" if words else ""
            self.status.value = f"<b>{html.escape(state)}</b>{html.escape(more)}"

    def _news_has_come(self) -> None:
        with self._saying:  # news come on several threads: the last to speak knows the last state
            self._allow()
        self._news.set()

    def _allow(self) -> None:
        """Only what can be done now can be pressed."""
        ended = self.training.state in ENDED
        can = {*self.training.possible, *(["step"] if ended else [])}
        if ended:
            offer(self.runs, {name: name for name in resumable(self.folder)})
            can -= set() if self.runs.options else {"resume"}
        for name, button in self.buttons.items():
            button.disabled = name not in can
        for control in (*self.choices.values(), self.runs):
            control.disabled = not ended
        if self.training.state != self._said:
            self._said = self.training.state
            self._say(self.training.words)

    # ------------------------------------------------------------------------------------- watching

    def _forget(self) -> None:
        self._recording: Recording | None = None
        self._track: Track | None = None
        self._drawn_epoch, self._played_epoch, self._step = 0, 0, 0

    def _watch(self) -> None:
        """Let the thread draw; it ends when the training has, and all of it is shown."""
        self._forget()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
            self._thread.start()
        self._news.set()

    def _keep_drawing(self) -> None:
        if sys.platform == "linux":  # where a single thread can give way to the training
            nice = os.getpriority(os.PRIO_PROCESS, 0) + GIVE_WAY
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        while not self._closed.is_set():
            self._news.clear()
            try:
                self._draw()
            except Exception as error:  # a picture that fails must not end the others
                self._say(f"no picture: {error}")
                self._drawn_epoch = self._played_epoch = self.training.epoch
            shown = not self._walks and self._played_epoch == self.training.epoch
            if shown and self.training.state in ENDED:
                return
            self._news.wait(None if shown and self.training.state == "paused" else self.refresh)

    @property
    def _walks(self) -> bool:
        return self._track is not None and self._step < len(self._track.cost)

    def _draw(self) -> None:
        config, epoch = self.training.config, self.training.epoch
        if config is None or config.run_dir is None or epoch == 0:
            return
        if self._recording is None or self._drawn_epoch != epoch:
            self._recording = Recording.read(config.run_dir).until(epoch)
            self.view.show_runs({Path(config.run_dir).name: self._recording})
            self.view.say(numbers(self._recording))
            self._drawn_epoch = epoch
        if not self._walks and self._played_epoch != epoch:
            self._track = self.view.play(self._recording)
            self._played_epoch, self._step = epoch, 0
        if self._track is not None and self._walks:
            self._step = min(self._step + PACE, len(self._track.cost))
            self.view.show_agents(
                {f"policy after epoch {self._played_epoch}": self._track}, self._step
            )


def numbers(run: Recording) -> dict[str, str]:
    """The last epoch in words, and what was turned."""
    now, total = run.progress.iloc[-1], max(run.config.total_steps, run.env_steps)
    speed = float(run.progress["steps_per_second"].tail(5).median())
    minutes, seconds = divmod(round((total - run.env_steps) / speed), 60)
    weight = float(now["cost_weight"])
    turned = {
        f"turned at {change.env_steps:,}": (
            f"{SYMBOLS[change.knob]}: {change.before:.3g} → {change.after:.3g}"
        )
        for change in run.changes[-4:]
    }
    return {
        "step": f"{run.env_steps:,} of {total:,}",
        "speed": f"{speed:,.0f} steps per second",
        "left": f"{minutes} min {seconds} s",
        "return": f"{now['return_mean']:.1f}",
        "episodic cost": f"{now['episodic_cost_mean']:.1f} of {now['cost_limit']:g}",
        "weights": f"w_r = {1 - weight:.2f}, w_c = {weight:.2f}",
        "undone": f"{now['rollbacks']:.0f} of {now['minibatches']:.0f} minibatches",
        "λ": f"{now['margin_lambda']:.3g}",
        "k": f"{now['steepness_k']:.3g}",
        "ε_KL": f"{now['kl_limit']:.3g}",
        **turned,
        "run": run.folder.name,
    }


def new_folder(place: Path, name: str) -> Path:
    """Make an empty folder of that name, with the first number that is free.

    Raises:
        OSError: if nothing can be written there.
    """
    place.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = place / f"{name}_{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def resumable(place: Path) -> list[str]:
    """Names of the runs that have a checkpoint, the latest first."""
    checkpoints = sorted(place.glob("*/checkpoint.pt"), key=lambda path: -path.stat().st_mtime)
    return [path.parent.name for path in checkpoints]


def _word(env_id: str) -> str:
    """`SafetyPointGoal1-v0` as `PointGoal1`."""
    return env_id.removeprefix("Safety").removesuffix("-v0")


def _choices(start: TrainConfig) -> dict[str, Any]:
    """What is chosen before a training."""
    steps = {"min": start.steps_per_epoch, "max": 100_000_000, "step": start.steps_per_epoch}
    return {
        "algorithm": ipywidgets.Dropdown(
            options=list(RULES), value=start.algorithm, description="algorithm"
        ),
        "env_id": ipywidgets.Dropdown(
            options=list(TASKS.items()), value=start.env_id, description="task"
        ),
        "seed": ipywidgets.BoundedIntText(start.seed, min=0, max=199_999, description="seed"),
        "total_steps": ipywidgets.BoundedIntText(start.total_steps, **steps, description="steps"),
    }


def _knobs(start: TrainConfig) -> dict[str, Any]:
    """What is turned while it runs."""
    linear, logarithmic = ipywidgets.FloatSlider, ipywidgets.FloatLogSlider
    fine = {"step": 0.05, "readout_format": ".3f"}
    sliders = {
        "margin_lambda": linear(min=0.01, max=1.0, step=0.01, description="margin λ"),
        "steepness_k": logarithmic(description="steepness k (per cost)", **fine),
        "kl_limit": logarithmic(description="KL limit ε_KL (nats)", **fine),
        "cost_limit": linear(min=0.5, max=100, step=0.5, description="cost limit C"),
    }
    for name, slider in sliders.items():
        put(slider, getattr(start, name))
    return sliders


def put(slider: Any, value: float) -> None:
    """Set a slider; one with a logarithmic scale gets this value as its middle.

    Browsers move a slider to the next of its steps by themselves: here the value is one of them.
    """
    with slider.hold_sync():
        if isinstance(slider, ipywidgets.FloatLogSlider):
            middle = math.log10(value)
            slider.min, slider.max = -99.0, 99.0
            slider.value = value
            slider.min, slider.max = middle - DECADES, middle + DECADES
        else:
            slider.value = value
