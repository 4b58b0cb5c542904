"""What can be turned at the frontier: what the camera sees, and how weights are shared."""

import functools

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from kfcpo_lib import sharing_study as study
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.toy_senses import PixelPointMassVecEnv
from kfcpo_lib.plots.frontier import camera, three_blocks
from kfcpo_lib.widgets.explorer import Explorer

HAZARDS = np.array([[-0.8, 0.3], [0.9, 0.9], [0.4, -1.0], [-1.1, -1.1]])


def picture_of(goal: tuple[float, float], velocity: tuple[float, float]) -> Array:
    """[3, 12, 12] what the camera above a point in the middle of the world sees."""
    env = PixelPointMassVecEnv(1, seed=0)
    env.goal[:], env.velocity[:], env.hazards[:] = goal, velocity, HAZARDS
    picture: Array = env._observe().reshape(env.obs_shape)
    return picture


def draw_camera(distance: float, angle: float, speed: float) -> Figure:
    """The goal so far away in this direction (degrees), the point moving to the right."""
    turned = np.deg2rad(angle)
    goal = distance * np.cos(turned), distance * np.sin(turned)
    return camera(picture_of(goal, (speed, 0.0)))


def camera_explorer() -> Explorer:
    """Where the goal is and how fast the point moves against the picture."""
    return Explorer(
        draw_camera,
        "Three channels of 12 x 12 pixels; the point is at the cross in the middle.",
        distance=ipywidgets.FloatSlider(
            1.0, min=0.0, max=3.0, step=0.1, description="goal: distance"
        ),
        angle=ipywidgets.IntSlider(45, -180, 180, 5, description="goal: angle (degrees)"),
        speed=ipywidgets.FloatSlider(1.0, min=-2.0, max=2.0, step=0.1, description="speed"),
    )


@functools.cache
def blocks_of(size: int, reads: str, bend: str, smooth: float) -> study.Blocks:
    """The convolution's block, exact and in both ways of sharing."""
    policy = study.SharedPolicy(size, reads, bend)
    return study.blocks(policy, study.pictures(200, size, smooth))


def draw_sharing(size: int, reads: str, bend: str, smooth: float) -> Figure:
    """Exact block, expand and reduce, with their errors."""
    blocks = blocks_of(size, reads, bend, smooth)
    errors = {name: blocks.error(name) for name in ("expand", "reduce")}
    return three_blocks({n: b.numpy() for n, b in blocks._asdict().items()}, errors)


def sharing_explorer() -> Explorer:
    """Places, readers, bend and smoothness of the pictures against the fit of both ways."""
    return Explorer(
        draw_sharing,
        "The Fisher block of a small convolution: exact, by expand (KFC), and by reduce.",
        size=ipywidgets.IntSlider(4, 2, 6, description="side of the picture"),
        reads=ipywidgets.Dropdown(options=study.READS, description="actions read"),
        bend=ipywidgets.Dropdown(options=study.BENDS, description="behind the convolution"),
        smooth=ipywidgets.FloatSlider(
            0.5, min=0.0, max=0.9, step=0.1, description="smoothness of pictures"
        ),
    )
