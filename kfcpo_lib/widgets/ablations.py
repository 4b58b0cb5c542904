"""Explorers of notebook 10: the maps of lambda and k, and the winner's curse."""

from functools import partial

import ipywidgets

from kfcpo_lib.ablations import Kept
from kfcpo_lib.plots.ablations import ENDS, MEASURES, draw_map, draw_winner
from kfcpo_lib.widgets.explorer import Explorer


def map_explorer(kept: Kept) -> Explorer:
    """A kept sweep over lambda and k: what is shown, which end of its interval, how many seeds."""
    seeds = int(kept.results["seed"].nunique())
    return Explorer(
        partial(draw_map, kept),
        "A map of margin and steepness. Dot: the best by the means. Star: the best by the "
        "intervals. Hatched: the mean cost is above the limit.",
        measure=ipywidgets.Dropdown(options=list(MEASURES), description="shown"),
        end=ipywidgets.Dropdown(options=ENDS, description="of the interval"),
        seeds=ipywidgets.IntSlider(seeds, min(2, seeds), seeds, description="seeds"),
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
