"""Explorers of notebook 06: the KL of two Gaussians, and rollback with an adaptive delta."""

import ipywidgets

from kfcpo_lib.plots.rollback import draw_drift, draw_gaussians
from kfcpo_lib.widgets.controls import slider
from kfcpo_lib.widgets.explorer import Explorer


def gaussian_explorer() -> Explorer:
    """Shift and width of a new policy against three ways to measure its distance."""
    return Explorer(
        draw_gaussians,
        "Left: old and new policy in one state. Right: predicted KL and both true KLs.",
        shift=slider("shift of the mean", 0.0, -3.0, 3.0, 0.25),
        log_ratio=slider("change of log σ", -1.0, -1.5, 1.0, 0.125),
    )


def drift_explorer() -> Explorer:
    """KL limit, delta, adaptation, scope of the check and noise against kept and undone steps."""
    return Explorer(
        draw_drift,
        "Left: KL of every trial step, kept or undone. Right: the trust-region size.",
        kl_limit=slider("KL limit", 0.01, 0.005, 0.03, 0.005),
        log10_delta=slider("log₁₀ δ at start", -3.0, -5.0, -1.0, 0.25),
        adaptive=ipywidgets.Checkbox(True, description="adaptive δ"),
        rollback=ipywidgets.Dropdown(
            options=("minibatch", "epoch", "none"), value="minibatch", description="rollback"
        ),
        agreement=slider("agreement of minibatches", 0.5, 0.0, 1.0, 0.1),
    )
