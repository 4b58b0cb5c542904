"""Explorers of notebook 07: one trial step under the microscope, and the parts taken away."""

from collections.abc import Mapping, Sequence
from functools import partial

import ipywidgets
import pandas as pd

from kfcpo_lib.blending import CONFLICT_MODES
from kfcpo_lib.plots.from_scratch import Plane, draw_part, draw_plane
from kfcpo_lib.widgets.controls import menu, slider
from kfcpo_lib.widgets.explorer import Explorer


def step_explorer(plane: Plane) -> Explorer:
    """Weight, delta, KL limit and conflict mode against the verdict on one trial step."""
    return Explorer(
        partial(draw_plane, plane),
        "One trial step in the plane of its two directions: where it ends, and the verdict.",
        cost_weight=slider("cost weight", 0.5, 0.0, 1.0, 0.05),
        log10_delta=slider("log₁₀ δ", -2.3, -4.0, -1.6, 0.1),
        kl_limit=slider("KL limit", 0.02, 0.005, 0.03, 0.005),
        conflict=menu("conflict", CONFLICT_MODES),
    )


def parts_explorer(runs: Mapping[str, Sequence[pd.DataFrame]]) -> Explorer:
    """Learning curves of the stored runs without one part, beside those of another kind."""
    kinds = tuple(runs)
    other = kinds[min(1, len(kinds) - 1)]
    return Explorer(
        partial(draw_part, runs),
        "Return, episodic cost and KL of each epoch: solid the one kind, dashed the other.",
        part=ipywidgets.Dropdown(options=kinds, value=other, description="runs (solid)"),
        against=ipywidgets.Dropdown(options=kinds, value=kinds[0], description="beside (dashed)"),
        window=ipywidgets.IntSlider(5, min=1, max=10, description="epochs averaged"),
    )
