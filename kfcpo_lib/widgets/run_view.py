"""What one sees of a run, live or stored: instruments, the agent from above, and words."""

import html
from collections.abc import Mapping
from pathlib import Path

import ipywidgets
from matplotlib.figure import Figure

from kfcpo_lib.plots.studio import Runs, draw_instruments, draw_stage
from kfcpo_lib.plots.style import small_png
from kfcpo_lib.recordings import Recording
from kfcpo_lib.tracks import Stage, Track

CAPTION = (
    "Above: return, episodic cost with its limit C and the margin centre λC, both weights; a "
    "dotted line marks where a knob was turned. Below: the sigmoid with the present episodic "
    "cost on it, the KL of the last minibatches, the angle of the two directions. Then the agent "
    "from above, its way coloured where it pays."
)
BLANK = small_png(Figure(figsize=(0.1, 0.1)), dpi=10)
"""A picture before the first one: browsers complain of none at all."""
LIVE = (80, 64)
"""Dots per inch and colours of a picture that changes all the time."""
MOST_TRACKS = 24
"""Episodes kept in memory."""


class RunView(ipywidgets.VBox):  # type: ignore[misc]
    """Two pictures and some words. Its methods may be called from any thread, one at a time."""

    def __init__(self) -> None:
        self.instruments = _picture()
        self.stage = _picture()
        self.words = ipywidgets.HTML()
        self.words.add_class("kfcpo-words")
        below = ipywidgets.Box([self.stage, self.words])
        below.layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        super().__init__([self.instruments, ipywidgets.HTML(CAPTION), below])
        self._stages: dict[str, Stage] = {}
        self._tracks: dict[tuple[Path, str, int], Track] = {}

    def show_runs(self, runs: Runs, whole: Runs | None = None) -> None:
        """Draw the instruments; see `draw_instruments`."""
        self.instruments.value = small_png(draw_instruments(runs, whole), *LIVE)

    def show_agents(self, tracks: Mapping[str, Track], step: int) -> None:
        """Draw the agents from above."""
        self.stage.value = small_png(draw_stage(tracks, step), *LIVE)

    def say(self, lines: Mapping[str, str]) -> None:
        """A small table beside the agent."""
        rows = (
            f"<tr><td>{html.escape(name)}&emsp;</td><td><b>{html.escape(text)}</b></td></tr>"
            for name, text in lines.items()
        )
        self.words.value = f"<table>{''.join(rows)}</table>"

    def play(self, run: Recording) -> Track:
        """The episode of a run's present policy, the same worlds for every policy of a task.

        Raises:
            ValueError: if the run has no readable policy.
        """
        if run.policy is None:
            raise ValueError(f"{run.folder} has no policy to watch")
        steps = max(n for n, name in run.snapshots.items() if name == run.policy)
        key = run.folder, run.policy, steps
        if key not in self._tracks:
            if len(self._tracks) >= MOST_TRACKS:
                del self._tracks[next(iter(self._tracks))]
            env_id = run.config.env_id
            if env_id not in self._stages:
                self._stages[env_id] = Stage(env_id)
            self._tracks[key] = self._stages[env_id].play(run.folder, run.policy)[0]
        return self._tracks[key]

    def close(self) -> None:
        """Free the simulators, and take the view off the page."""
        for stage in self._stages.values():
            stage.close()
        self._stages.clear()
        super().close()


def _picture() -> ipywidgets.Image:
    picture = ipywidgets.Image(value=BLANK, format="png")
    picture.add_class("kfcpo-view")
    picture.layout = ipywidgets.Layout(max_width="100%", align_self="flex-start")
    return picture
