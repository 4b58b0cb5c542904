"""Pictures of notebook 12 draw, also at extreme values."""

import numpy as np
import pandas as pd

from kfcpo_lib.gaits import Gait
from kfcpo_lib.plots import frontier as plots
from kfcpo_lib.plots.style import png


def test_figures_draw() -> None:
    square = np.eye(4)
    gait = Gait(np.random.default_rng(0).normal(9.0, 9.0, (12, 5, 2, 2)), np.linspace(0, 1, 11))
    run = pd.DataFrame(
        {
            "env_steps": [1_000, 2_000, 3_000],
            "return_mean": [np.nan, 0.0, 1.0],
            "episodic_cost_mean": [np.nan, 30.0, 0.0],
            "cost_limit": [25.0] * 3,
        }
    )
    row = {"hidden layers": "2 of 64", "conjugate gradient / K-FAC": 3.0}
    row |= {f"quality of {name}": 0.5 for name in plots.BARS}
    figures = [
        plots.camera(np.zeros((3, 12, 12))),
        plots.flicker(np.zeros(20), np.zeros(20), 8),
        plots.three_blocks({"exact": 0 * square, "expand": square}, {"expand": 0.0}),
        plots.sharing_errors({"expand": {"a": 0.0, "b": 3.0}, "reduce": {"a": 0.5, "b": 0.0}}),
        plots.trainings({"one": run, "two": run, "three": run}),
        plots.trainings({"one": run.iloc[:1]}),
        plots.gaits({"fallen": Gait(np.zeros((3, 2, 2, 2)), np.ones(2))}),
        plots.gaits({"one": Gait(np.ones((30, 2, 2, 2)), np.zeros(29)), "two": gait}, every=5),
        plots.depth([row, row | {"quality of K-FAC": 1.0}]),
    ]
    assert all(png(figure, dpi=40).startswith(b"\x89PNG") for figure in figures)
