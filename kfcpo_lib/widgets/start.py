"""Explorers of notebook 00: two agents step by step, and a lidar."""

from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure

from kfcpo_lib.plots.start import REACH, draw_agents, draw_lidar
from kfcpo_lib.tracks import Track
from kfcpo_lib.widgets.explorer import Explorer


def agents_explorer(tracks: Mapping[str, Sequence[Track]], world: int = 1) -> Explorer:
    """Step through the episodes of some agents, world by world; `world` (from 1) comes first."""
    worlds = min(len(episodes) for episodes in tracks.values())
    length = max(len(track.cost) for episodes in tracks.values() for track in episodes)

    def draw(world: int, step: int) -> Figure:
        return draw_agents({name: episodes[world - 1] for name, episodes in tracks.items()}, step)

    return Explorer(
        draw,
        "The same world for each agent, from above: path, goals reached, steps that cost.",
        world=ipywidgets.IntSlider(world, min=1, max=worlds, description="world"),
        step=ipywidgets.IntSlider(
            length // 2, min=0, max=length, step=max(1, length // 50), description="step"
        ),
    )


def lidar_explorer() -> Explorer:
    """Distance and angle of one hazard against the sixteen numbers of a lidar."""
    return Explorer(
        draw_lidar,
        "Left: a hazard around the agent, from above. Right: the lidar's sixteen numbers.",
        distance=ipywidgets.FloatSlider(
            1.2, min=0.1, max=REACH + 0.5, step=0.1, description="distance (m)"
        ),
        angle=ipywidgets.FloatSlider(50.0, min=0.0, max=360.0, step=5.0, description="angle (°)"),
    )
