"""What can be turned about K-FAC: the tiles of one layer, and its memory."""

import functools

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor, nn

from kfcpo_lib.kfac import KFAC
from kfcpo_lib.kfac_study import (
    Drift,
    jacobian_fisher,
    layer_slices,
    relative_error,
    states,
    tile_order,
    tiny_policy,
)
from kfcpo_lib.plots.kfac import drift, two_blocks
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.widgets.explorer import Explorer

LAYERS = ("layer 1", "layer 2", "layer 3")
BENDS = ("tanh", "none (linear)")


def network(bend: str) -> GaussianPolicy:
    """The tiny policy, with tanh or without any bend between its layers."""
    policy = tiny_policy()
    if bend != "tanh":
        policy.mean_net = nn.Sequential(
            *(nn.Identity() if isinstance(m, nn.Tanh) else m for m in policy.mean_net)
        )
    return policy


@functools.cache
def fisher_and_kfac(bend: str, count: int) -> tuple[Tensor, Tensor]:
    """[P, P] exact and by K-FAC, over so many states, each row of weights with its bias."""
    policy, obs = network(bend), states(count, seed=1)
    kfac = KFAC(policy)
    kfac.update_factors(obs)
    order = tile_order(policy)
    exact, kronecker = (f[order][:, order] for f in (jacobian_fisher(policy, obs), kfac.dense()))
    return exact, kronecker


def draw_blocks(layer: str, bend: str, count: int) -> Figure:
    """One layer's block, exact and by K-FAC."""
    where = layer_slices(tiny_policy())[layer]
    exact, kronecker = (f[where, where] for f in fisher_and_kfac(bend, count))
    return two_blocks(exact.numpy(), kronecker.numpy(), relative_error(kronecker, exact))


def block_explorer() -> Explorer:
    """Layer, bend of the network and number of states against the fit of the tiles."""
    return Explorer(
        draw_blocks,
        "Left: the exact Fisher block of one layer. Right: its Kronecker product, and the error.",
        layer=ipywidgets.Dropdown(options=LAYERS, description="layer"),
        bend=ipywidgets.Dropdown(options=BENDS, description="between the layers"),
        count=ipywidgets.SelectionSlider(
            options=[1, 2, 5, 20, 100, 400], value=400, description="states"
        ),
    )


@functools.cache
def stored_drift() -> Drift:
    """Thirty updates of a moving policy; computed once, in about a second."""
    return Drift.simulate()


def draw_drift(
    log_damping: float, decay: float, inverse_period: int, statistics_period: int = 1
) -> Figure:
    """Step quality and error of the factors along thirty updates."""
    damping = 10.0**log_damping
    return drift(*stored_drift().replay(damping, decay, inverse_period, statistics_period))


def drift_explorer() -> Explorer:
    """Damping, decay, T_f and T_s against the error of the factors and the quality of the step."""
    return Explorer(
        draw_drift,
        "Step quality (1 is the exact natural gradient) and error of the factors, per update, "
        "while the policy moves.",
        log_damping=ipywidgets.FloatSlider(
            -2.0, min=-5.0, max=1.0, step=0.25, description="log10 of damping"
        ),
        decay=ipywidgets.FloatSlider(0.8, min=0.0, max=0.99, step=0.01, description="decay"),
        inverse_period=ipywidgets.IntSlider(1, 1, 20, description="T_f"),
        statistics_period=ipywidgets.IntSlider(1, 1, 20, description="T_s"),
    )
