"""Every control of notebook 00's explorers changes the picture."""

import numpy as np

from kfcpo_lib.tracks import Track
from kfcpo_lib.widgets.start import agents_explorer, lidar_explorer


def moved(explorer, **values):
    for name, value in values.items():
        before = explorer.picture.value
        explorer.controls[name].value = value
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
    assert set(values) == set(explorer.controls)


def track(shift):
    path = np.linspace([0.0, 0.0], [1.0, shift], 21)
    sizes = {"goal": 0.3, "hazards": 0.2}
    hazards = {"hazards": np.eye(2)[None].repeat(21, axis=0)}
    return Track(path, np.ones(20), np.zeros(20), np.ones((21, 2)), hazards, sizes)


def test_the_agents_walk():
    explorer = agents_explorer({"one": [track(0.1), track(0.5)], "two": [track(1), track(2)]})
    moved(explorer, world=2, step=15)
    explorer.controls["step"].value = 0
    assert explorer.message.value == ""


def test_the_agents_open_in_the_world_that_is_asked_for():
    tracks = {"one": [track(0.1), track(0.5)], "two": [track(1), track(2)]}
    assert agents_explorer(tracks).controls["world"].value == 1
    explorer = agents_explorer(tracks, world=2)
    assert explorer.controls["world"].value == 2
    picture = explorer.picture.value
    explorer.controls["world"].value = 1
    assert explorer.picture.value != picture


def test_the_lidar_turns():
    moved(lidar_explorer(), distance=2.0, angle=200.0)
