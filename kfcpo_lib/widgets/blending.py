"""Explorers of notebook 05: the blend, the metric, and four controllers on the shore walk."""

import ipywidgets
from matplotlib.figure import Figure

from kfcpo_lib.blending import CONFLICT_MODES
from kfcpo_lib.controllers import (
    Controller,
    HardSwitch,
    Lagrangian,
    MarginAware,
    ShoreWalk,
    SoftSwitch,
    simulate,
)
from kfcpo_lib.plots.blending import draw_blending, draw_controller, draw_metric
from kfcpo_lib.widgets.controls import menu, slider
from kfcpo_lib.widgets.explorer import Explorer

COST_LIMIT = 20.0
CONTROLLERS = (
    "KFCPO: margin-aware",
    "CRPO: hard switch",
    "PCRPO: soft switch",
    "Lagrangian",
)


def blending_explorer() -> Explorer:
    """Lambda, k, episodic cost, angle and conflict mode against weights and blend."""
    return Explorer(
        draw_blending,
        "Left: both weights over the episodic cost. Right: the two directions and their blend.",
        margin_lambda=slider("margin λ", 0.8, 0.3, 1.0, 0.05),
        log10_k=slider("log₁₀ k (per cost)", -0.5, -2.0, 1.0, 0.25),
        episodic_cost=slider("episodic cost", 25.0, 0.0, 40.0, 1.0),
        angle=slider("angle (degrees)", 125.0, 20.0, 175.0, 5.0),
        conflict=menu("conflict", CONFLICT_MODES, "project_cost"),
    )


def metric_explorer() -> Explorer:
    """How strongly one parameter moves the policy, against conflict or no conflict."""
    return Explorer(
        draw_metric,
        "The same two directions as numbers, and as the policy feels them.",
        stretch=slider("stretch of parameter 1", 3.0, 0.25, 4.0, 0.25),
        angle=slider("angle (degrees)", 80.0, 20.0, 160.0, 5.0),
    )


def draw_walk(
    name: str, conflict: float, signal: float, log10_k: float, episodes: int, window: int
) -> Figure:
    """One controller on one shore walk; `episodes` 0 tells it the true cost."""
    walk = ShoreWalk(conflict=conflict, signal=signal)
    controller = find_controller(name, 10.0**log10_k)
    trace = simulate(
        walk, controller, epochs=120, episodes=episodes or None, window=window * episodes or None
    )
    return draw_controller(trace, COST_LIMIT, 0.8 * COST_LIMIT, name)


def find_controller(name: str, steepness_k: float) -> Controller:
    """A fresh controller of one of the four kinds; only KFCPO's has a steepness."""
    kinds: dict[str, Controller] = {
        "CRPO: hard switch": HardSwitch(COST_LIMIT),
        "PCRPO: soft switch": SoftSwitch(COST_LIMIT),
        "Lagrangian": Lagrangian(COST_LIMIT),
    }
    return kinds.get(name, MarginAware(COST_LIMIT, 0.8, steepness_k, "none"))


def controller_explorer() -> Explorer:
    """Controller, task and noise against the course of the cost and of the weight."""
    return Explorer(
        draw_walk,
        "Left: the cost over the epochs, with limit and centre. Right: the cost weight.",
        name=menu("controller", CONTROLLERS, CONTROLLERS[0]),
        conflict=slider("conflict ρ of the task", 0.6, 0.1, 0.95, 0.05),
        signal=slider("signal s", 1.0, 0.1, 1.0, 0.1),
        log10_k=slider("log₁₀ k (KFCPO)", -0.5, -2.0, 1.0, 0.25),
        episodes=_integer("episodes (0: exact)", 0, 0, 40, 5),
        window=_integer("average over epochs", 1, 1, 10, 1),
    )


def _integer(text: str, value: int, low: int, high: int, step: int) -> ipywidgets.Widget:
    return ipywidgets.IntSlider(value, min=low, max=high, step=step, description=text)
