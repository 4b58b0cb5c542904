"""Explorers of notebook 10: the maps of lambda and k, and the winner's curse."""

from collections.abc import Mapping
from functools import partial

import ipywidgets

from kfcpo_lib.ablations import Kept
from kfcpo_lib.plots.ablations import ENDS, MEASURES, draw_maps, draw_winner
from kfcpo_lib.widgets.explorer import Explorer


def map_explorer(maps: Mapping[str, Kept]) -> Explorer:
    """Sweeps over lambda and k: the task, what is shown of it, the interval's end, the seeds."""
    seeds = max(kept.common_seeds for kept in maps.values())
    return Explorer(
        partial(draw_maps, maps),
        "A map of margin and steepness. Dot: the best by the means. Star: the best by the "
        "intervals. Hatched: the mean cost is above the limit.",
        task=ipywidgets.Dropdown(options=list(maps), description="task"),
        measure=ipywidgets.Dropdown(options=list(MEASURES), description="shown"),
        end=ipywidgets.Dropdown(options=ENDS, description="of the interval"),
        seeds=ipywidgets.IntSlider(seeds, min(2, seeds), seeds, description="seeds, at most"),
    )


def winner_explorer() -> Explorer:
    """How many settings, how many seeds, how much seeds differ: what the best one promises."""
    return Explorer(
        draw_winner,
        "Returns of the best of several settings that are truly equal: on the seeds that chose "
        "it, and on fresh ones.",
        settings=ipywidgets.IntSlider(9, 1, 40, description="settings compared"),
        seeds=ipywidgets.IntSlider(3, 1, 20, description="seeds a setting"),
        spread=ipywidgets.FloatSlider(
            2.0, min=0.5, max=4.0, step=0.25, description="seeds' spread"
        ),
    )
