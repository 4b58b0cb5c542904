"""Pictures of notebook 03 draw, also at extreme values."""

import numpy as np

from kfcpo_lib.plots import kfac as plots
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets import kfac as widgets


def test_figures_draw() -> None:
    line, square = np.geomspace(1e-3, 1.0, 6), np.eye(6)
    row = {"hidden layers": "64", "parameters": 10, "K-FAC ms": 1.0, "conjugate gradient ms": 9.0}
    figures = [
        plots.matrices({"one": square, "two": 0 * square}, borders=(2,), names=("a", "b")),
        plots.matrices({"zero": 0 * square}),
        plots.two_blocks(square, square, 0.0),
        plots.error_bars({"tanh": {"layer 1": 0.3, "layer 2": 0.0}, "linear": {"layer 1": 0.0}}),
        plots.eigenvalues(line, np.array([0.0, -1e-20]), (0.1,)),
        plots.damping_of_directions(line, 1 / (line + 0.1), 1 / (line + 0.2), 0.1),
        plots.quality_curves(line, {"K-FAC": line.tolist(), "exact F": line.tolist()}),
        plots.convergence([1, 10, 100], np.full((2, 3), 0.3)),
        plots.drift([0.0, 1.0], [1.1, 0.0]),
        plots.map_of_settings(np.outer(line, line), line.tolist(), line.tolist(), ("a", "b")),
        plots.cost_growth([8, 16], {"K-FAC": [1.0, 2.0], "dense matrix": [1.0, 99.0]}, "width"),
        plots.cost_bars([row, row]),
    ]
    assert all(png(figure, dpi=40).startswith(b"\x89PNG") for figure in figures)


def test_explorers_draw_at_the_ends_of_their_controls() -> None:
    for bend in widgets.BENDS:
        assert png(widgets.draw_blocks("layer 1", bend, 1), dpi=40)
    for damping, decay, period in ((-5.0, 0.0, 1), (1.0, 0.99, 20)):
        assert png(widgets.draw_drift(damping, decay, period), dpi=40)
