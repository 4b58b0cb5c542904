"""What can be turned about distance between policies and the direction of a step."""

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from kfcpo_lib.bandits import COORDINATES, Array, ascent_path
from kfcpo_lib.fisher import conjugate_gradient
from kfcpo_lib.plots.natural_gradients import kl_pair, one_path, valley
from kfcpo_lib.widgets.controls import menu, slider
from kfcpo_lib.widgets.explorer import Explorer

STARTS = {"narrow and far": (0.0, -1.2), "wide and far": (0.0, 0.8), "narrow and near": (2.0, -2.5)}
METRICS = ("plain gradient", "natural gradient")


def kl_explorer() -> Explorer:
    """Two Gaussian policies: how far apart in KL, how far in parameters."""
    return Explorer(
        kl_pair,
        "Densities of an old and a new policy; above them the distance of the parameters, "
        "Fisher's ½ Δ'FΔ, and the KL both ways.",
        mean_shift=slider("mean moved by", 0.5, -2.0, 2.0, 0.05),
        log_std=slider("log σ of the old", 0.0, -2.0, 1.0, 0.1),
        log_ratio=slider("log σ moved by", 0.3, -1.0, 1.0, 0.05),
    )


def draw_ascent(metric: str, coordinates: str, log_rate: float, start: str) -> Figure:
    """60 steps uphill from one start: path, reward and largest KL of a step."""
    path = ascent_path(
        STARTS[start],
        60,
        natural=metric == "natural gradient",
        coordinates=COORDINATES[coordinates],
        learning_rate=10.0**log_rate,
    )
    return one_path(path, metric)


def landscape_explorer() -> Explorer:
    """Metric, coordinates and step size against the path uphill."""
    return Explorer(
        draw_ascent,
        "60 steps of gradient ascent on the expected reward (dark is high), a marker every 10.",
        metric=menu("gradient", METRICS),
        coordinates=menu("written in", tuple(COORDINATES)),
        log_rate=slider("log10 of the rate", 0.0, -2.0, 1.5, 0.1),
        start=menu("start", tuple(STARTS)),
    )


def draw_valley(log_condition: float, iterations: int) -> Figure:
    """Steepest descent and conjugate gradient on a bowl of this condition number."""
    matrix = bowl(10.0**log_condition)
    target = matrix @ far_corner(10.0**log_condition)
    paths = {
        "steepest descent": descent_iterates(matrix, target, iterations),
        "conjugate gradient": conjugate_iterates(matrix, target, iterations),
    }
    return valley(matrix, target, paths)


def valley_explorer() -> Explorer:
    """How stretched the bowl is, and how many iterations are made."""
    return Explorer(
        draw_valley,
        "Steepest descent zigzags down a stretched bowl; conjugate gradient needs two iterations.",
        log_condition=slider("log10 of stretch", 1.0, 0.0, 2.0, 0.1),
        iterations=ipywidgets.IntSlider(4, 1, 20, description="iterations"),
    )


def bowl(condition: float) -> Array:
    """[2, 2] symmetric positive matrix, turned by 30 degrees, of this condition number."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    basis = np.array([[cos, -sin], [sin, cos]])
    turned: Array = basis @ np.diag([1.0, condition]) @ basis.T
    return turned


def far_corner(condition: float) -> Array:
    """[2] a solution at distance 1.15 from the start, from where steepest descent zigzags."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    basis = np.array([[cos, -sin], [sin, cos]])
    corner: Array = basis @ np.array([np.sqrt(condition), -1.0])
    return 1.15 * corner / np.linalg.norm(corner)


def descent_iterates(matrix: Array, target: Array, iterations: int) -> Array:
    """[n + 1, P] steepest descent with the best stride each time, from zero."""
    points = [np.zeros_like(target)]
    for _ in range(iterations):
        residual = target - matrix @ points[-1]
        curvature = residual @ matrix @ residual
        stride = residual @ residual / curvature if curvature > 1e-300 else 0.0
        points.append(points[-1] + stride * residual)
    return np.array(points)


def conjugate_iterates(matrix: Array, target: Array, iterations: int) -> Array:
    """[n + 1, P] conjugate gradient, from zero."""
    dense, goal = torch.from_numpy(matrix), torch.from_numpy(target)
    points = [conjugate_gradient(lambda v: dense @ v, goal, n) for n in range(iterations + 1)]
    return torch.stack(points).numpy()
