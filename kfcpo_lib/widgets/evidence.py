"""Explorer of notebook 09: how much a comparison of few seeds depends on luck."""

import ipywidgets

from kfcpo_lib.plots.evidence import draw_luck
from kfcpo_lib.widgets.explorer import Explorer


def luck_explorer() -> Explorer:
    """Number of seeds, true gap and spread against what twelve repetitions would report."""
    return Explorer(
        draw_luck,
        "Left: means and intervals of both rules. Right: the probability of improvement.",
        seeds=ipywidgets.IntSlider(3, 2, 20, description="seeds a rule"),
        gap=ipywidgets.FloatSlider(2.0, min=0.0, max=10.0, step=0.5, description="true gap"),
        spread=ipywidgets.FloatSlider(4.0, min=0.5, max=8.0, step=0.5, description="seeds' spread"),
    )
