"""Explorer of notebook 11: the charts of all patients."""

from collections.abc import Mapping

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from kfcpo_lib.plots.clinic import draw_chart
from kfcpo_lib.widgets.controls import menu
from kfcpo_lib.widgets.explorer import Explorer


def ward_explorer(runs: Mapping[str, pd.DataFrame]) -> Explorer:
    """The chart of one run, beside that of another; `runs` by name, the first to compare with."""
    names = tuple(runs)

    def draw(run: str, beside: str, window: int) -> Figure:
        return draw_chart(runs[run], runs[beside], window=window)

    return Explorer(
        draw,
        "Return, cost, weight, undone steps, delta and KL: solid one run, dashed the other.",
        run=menu("run (solid)", names, names[min(1, len(names) - 1)]),
        beside=menu("beside (dashed)", names, names[0]),
        window=ipywidgets.IntSlider(1, min=1, max=10, description="epochs averaged"),
    )
