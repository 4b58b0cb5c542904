"""Explorer of notebook 11: the charts of all patients."""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kfcpo_lib.plots.clinic import draw_chart
from kfcpo_lib.widgets.controls import menu
from kfcpo_lib.widgets.explorer import Explorer


def numbered(names: Sequence[str]) -> dict[str, str]:
    """Number -> name. Healthy runs keep their names, the others are "run 1" and so on, shuffled."""
    sound = {name: name for name in names if name.startswith("healthy")}
    ill = np.random.default_rng(11).permutation([name for name in names if name not in sound])
    return sound | {f"run {number}": str(name) for number, name in enumerate(ill, start=1)}


def ward_explorer(runs: Mapping[str, pd.DataFrame]) -> Explorer:
    """The chart of one of the `numbered` runs beside another's; what they have, on request."""
    name_of = numbered([*runs])
    names = tuple(name_of)

    def draw(run: str, beside: str, window: int, key: bool = False) -> Figure:
        words = (name_of[run], name_of[beside]) if key else (f"{run}, in colour", beside)
        tables = runs[name_of[run]], runs[name_of[beside]]
        return draw_chart(*tables, window=window, names=words)

    return Explorer(
        draw,
        "Return, cost, weight, undone steps, delta and KL: solid one run, dashed the other.",
        run=menu("run (solid)", names, names[-1]),
        beside=menu("beside (dashed)", names, names[0]),
        window=ipywidgets.IntSlider(1, min=1, max=10, description="epochs averaged"),
        key=ipywidgets.Checkbox(False, description="say what they have"),
    )
