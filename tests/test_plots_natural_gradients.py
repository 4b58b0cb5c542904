"""Pictures and explorers of notebook 02: every figure draws, every control changes the picture."""

import numpy as np
import pytest

from kfcpo_lib import bandits
from kfcpo_lib.plots import natural_gradients as plots
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets import natural_gradients as widgets

PNG = b"\x89PNG"


@pytest.mark.parametrize(
    ("shift", "log_std", "log_ratio"), [(0.0, 0.0, 0.0), (-2.0, -2.0, 1.0), (2.0, 1.0, -1.0)]
)
def test_kl_pair_draws_at_the_ends_of_its_sliders(
    shift: float, log_std: float, log_ratio: float
) -> None:
    assert png(plots.kl_pair(shift, log_std, log_ratio)).startswith(PNG)


@pytest.mark.parametrize("log_rate", [-2.0, 1.5])
@pytest.mark.parametrize("metric", widgets.METRICS)
def test_ascent_draws_at_the_ends_of_its_sliders(metric: str, log_rate: float) -> None:
    for coordinates in bandits.COORDINATES:
        assert png(widgets.draw_ascent(metric, coordinates, log_rate, "wide and far"))


@pytest.mark.parametrize(("stretch", "iterations"), [(0.0, 1), (2.0, 20), (0.0, 20)])
def test_valley_draws_at_the_ends_of_its_sliders(stretch: float, iterations: int) -> None:
    assert png(widgets.draw_valley(stretch, iterations)).startswith(PNG)


def test_other_figures_draw() -> None:
    line = np.linspace(1.0, 0.1, 20)
    scores = np.random.default_rng(0).standard_normal((20, 2))
    figures = [
        plots.training_curves({"plain": line, "natural": line}, "title", "x", "y"),
        plots.density_pairs([((0, 0), (0.5, 0))]),
        plots.kl_against_quadratic(line - 0.5, line, line, line, "x"),
        plots.score_clouds({"one": (scores, np.eye(2))}),
        plots.kl_balls([(0.0, -1.5), (0.0, 0.5)], 0.05),
        plots.steepest_ascent((0.0, -1.2), np.array([0.1, 0.02]), 0.02),
        plots.simplex_paths({"natural": [np.full((2, 3), 1 / 3)]}, (1.0, 0.5, 0.0)),
        plots.spectrum(np.array([1.0, 0.0, -1e-18]), (0.1,)),
        plots.residuals({"conjugate": line}),
        plots.landscape({"plain": scores, "natural": scores}),
        plots.gain_bars({"plain": ([1.0, 2.0], [0.5, 0.6]), "natural": ([2.0], [-0.1])}),
    ]
    assert all(png(figure, dpi=40).startswith(PNG) for figure in figures)


def test_conjugate_gradient_is_exact_after_two_of_two_steps() -> None:
    matrix = widgets.bowl(30.0)
    target = matrix @ widgets.far_corner(30.0)
    np.testing.assert_allclose(matrix @ widgets.conjugate_iterates(matrix, target, 2)[2], target)
    steepest = widgets.descent_iterates(matrix, target, 2)[2]
    assert np.linalg.norm(matrix @ steepest - target) > 0.1
