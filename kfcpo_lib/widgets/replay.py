"""Stored runs watched again: scrubbed by a slider, two side by side, evaluated, filmed."""

import base64
import html
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ipywidgets

from kfcpo_lib.background import Event, Job
from kfcpo_lib.films import film
from kfcpo_lib.plots.studio import Runs
from kfcpo_lib.recordings import Recording
from kfcpo_lib.widgets.controls import offer, row
from kfcpo_lib.widgets.run_view import RunView

NOTHING = "nothing"


class Replay(ipywidgets.VBox):  # type: ignore[misc]
    """A stored run in the studio's view, alone or beside another one.

    Args:
        find: called for the runs there are, name -> folder; again when `look again` is pressed.
    """

    def __init__(self, find: Callable[[], Mapping[str, Path]]) -> None:
        self.find = find
        self.view = RunView()
        self.run = ipywidgets.Dropdown(description="run", layout={"width": "26em"})
        self.beside = ipywidgets.Dropdown(description="beside", layout={"width": "26em"})
        self.epoch = ipywidgets.IntSlider(1, min=1, description="epoch", layout={"width": "40em"})
        self.step = ipywidgets.IntSlider(
            1_000, min=0, max=1_000, step=25, description="step", layout={"width": "40em"}
        )
        self.play = ipywidgets.Play(min=1, value=1, interval=1_000, description="epochs")
        self.status = ipywidgets.HTML()
        self.status.add_class("kfcpo-status")
        self.result = ipywidgets.HTML()
        self.result.add_class("kfcpo-evaluation")
        self.episodes = ipywidgets.BoundedIntText(
            20, min=1, max=1_000, description="episodes", layout={"width": "12em"}
        )
        self.film = ipywidgets.HTML()
        self.buttons = self._make_buttons()
        self._lock, self._wish, self._draws = threading.Lock(), False, False
        self._read: dict[Path, Recording] = {}
        self._work: threading.Thread | None = None
        self._drawing: threading.Thread | None = None
        self._job: Job | None = None
        self._closed = False
        self._arrange()
        self.look_again()

    # ------------------------------------------------------------------------------ what one can do

    def look_again(self) -> None:
        """Find the runs that there are now, also those that have grown."""
        found = dict(self.find())
        self._read.clear()
        offer(self.run, found)
        offer(self.beside, {NOTHING: None} | found)
        self._run_chosen()

    def evaluate(self) -> None:
        """Play fresh episodes with the last policy, sampled and mean actions, in the background."""
        self._in_background("evaluating", self._evaluate)

    def shoot(self) -> None:
        """Film the beginning of the episode that is seen from above, in the background."""
        self._in_background("filming", self._shoot)

    def close(self) -> None:
        """End what goes on in the background, and free the simulators."""
        self._closed = True
        job = self._job
        if job is not None:
            job.close(patience=0)
        for thread in (self._work, self._drawing):
            if thread is not None:
                thread.join()
        self.view.close()
        super().close()

    # ------------------------------------------------------------------------------------ answering

    def _make_buttons(self) -> dict[str, Any]:
        actions = {
            "look again": ("search", self.look_again),
            "Evaluate": ("bar-chart", self.evaluate),
            "Film": ("film", self.shoot),
        }
        buttons = {}
        for text, (icon, action) in actions.items():
            buttons[text] = ipywidgets.Button(description=text, icon=icon)
            buttons[text].on_click(lambda _, action=action: action())
        return buttons

    def _arrange(self) -> None:
        for menu in (self.run, self.beside):
            menu.observe(lambda _: self._run_chosen(), "value")
        for slider in (self.epoch, self.step):
            slider.observe(lambda _: self._ask_for_picture(), "value")
        self._link = ipywidgets.jslink((self.play, "value"), (self.epoch, "value"))
        look, rate, shoot = self.buttons.values()
        above = [row(self.run, self.beside, look), row(self.play, self.epoch), row(self.step)]
        below = [row(self.episodes, rate, shoot), self.result, self.film]
        super().__init__([*above, self.status, self.view, *below])

    def _run_chosen(self) -> None:
        try:
            last = max((run.epochs for run in self._runs().values()), default=1)
        except (ValueError, OSError) as error:
            self._say(str(error))
            return
        if self.epoch.max != last:
            self.epoch.max = self.play.max = last
            self.epoch.value = last
        self._ask_for_picture()

    def _runs(self) -> Runs:
        """The runs that are chosen, read once, by a short name."""
        folders = [folder for folder in (self.run.value, self.beside.value) if folder is not None]
        for folder in folders:
            if folder not in self._read:
                self._read[folder] = Recording.read(folder)
        names = [folder.name for folder in folders]
        if len(set(names)) < len(names):
            names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
        return {name: self._read[folder] for name, folder in zip(names, folders, strict=True)}

    def _say(self, words: str) -> None:
        self.status.value = html.escape(words)

    # -------------------------------------------------------------------------------------- drawing

    def _ask_for_picture(self) -> None:
        """Draw in the background; of many wishes in a row only the last one counts."""
        with self._lock:
            self._wish = True
            if self._draws or self._closed:
                return
            self._draws = True
            self._drawing = threading.Thread(target=self._draw_what_is_wished, daemon=True)
            self._drawing.start()

    def _draw_what_is_wished(self) -> None:
        while True:
            with self._lock:
                if not self._wish or self._closed:
                    self._draws = False
                    return
                self._wish = False
            try:
                self._draw()
            except Exception as error:  # the next wish may go well
                self._say(f"no picture: {error}")

    def _draw(self) -> None:
        whole = self._runs()
        if not whole:
            self._say("no runs here yet")
            return
        now = {name: run.until(self.epoch.value) for name, run in whole.items()}
        self._say("drawing ...")
        self.view.show_runs(now, whole)
        tracks = {
            f"{name}, policy of step {steps_of_policy(run):,}": self.view.play(run)
            for name, run in now.items()
        }
        self.view.show_agents(tracks, self.step.value)
        self._say("; ".join(f"{name}: {where(run)}" for name, run in now.items()))

    # -------------------------------------------------------------------------- evaluating, filming

    def _in_background(self, what: str, work: Callable[[Path], None]) -> None:
        folder = self.run.value
        if folder is None or self._closed or (self._work is not None and self._work.is_alive()):
            return

        def do() -> None:
            self._allow(False)
            self.result.value = f"{what} {html.escape(folder.name)} ..."
            try:
                work(folder)
            except Exception as error:  # whatever it was, the buttons come back
                self.result.value = html.escape(str(error) or type(error).__name__)
            finally:
                self._allow(True)

        self._work = threading.Thread(target=do, daemon=True)
        self._work.start()

    def _allow(self, free: bool) -> None:
        for name in ("Evaluate", "Film"):
            self.buttons[name].disabled = not free

    def _evaluate(self, folder: Path) -> None:
        events = SimpleQueue[Event]()
        lines = [f"{folder.name}, last policy:"]
        self._job = Job(events.put, job="evaluate", run=str(folder), episodes=self.episodes.value)
        with closing(self._job):
            while (told := events.get())["event"] == "evaluated":
                lines.append(told["words"])
                self.result.value = "<br>".join(html.escape(line) for line in lines)
        if told["event"] == "failed":
            raise ValueError(told["words"])

    def _shoot(self, folder: Path) -> None:
        run = Recording.read(folder).until(self.epoch.value)
        data = base64.b64encode(film(folder, run.policy or "policy.pt")).decode()
        self.film.value = f'<video controls autoplay loop src="data:video/mp4;base64,{data}">'
        self.result.value = f"{html.escape(folder.name)}, policy of step {steps_of_policy(run):,}"


def steps_of_policy(run: Recording) -> int:
    """Environment steps after which the run's present policy was kept."""
    return next(steps for steps, name in run.snapshots.items() if name == run.policy)


def where(run: Recording) -> str:
    """The moment of a run in a few words."""
    now = run.progress.iloc[-1]
    return (
        f"step {run.env_steps:,}, return {now['return_mean']:.1f}, "
        f"cost {now['episodic_cost_mean']:.1f} of {now['cost_limit']:g}, "
        f"λ = {now['margin_lambda']:.3g}, k = {now['steepness_k']:.3g}"
    )
