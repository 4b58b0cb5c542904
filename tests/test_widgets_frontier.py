"""Explorers of notebook 12: moving each control changes the picture."""

from collections.abc import Callable
from typing import Any

import pytest

from kfcpo_lib import sharing_study as study
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets import Explorer
from kfcpo_lib.widgets import frontier as widgets

MOVES = [
    (widgets.camera_explorer, {"distance": 2.0, "angle": -90, "speed": 0.0}),
    (
        widgets.sharing_explorer,
        {"size": 3, "reads": study.READS[1], "bend": study.BENDS[1], "smooth": 0.1},
    ),
]


@pytest.mark.parametrize(("make", "moves"), MOVES)
def test_each_control_changes_the_picture(
    make: Callable[[], Explorer], moves: dict[str, Any]
) -> None:
    explorer = make()
    assert set(moves) == set(explorer.controls)
    for name, value in moves.items():
        before = explorer.picture.value
        explorer.controls[name].value = value
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""


def test_explorers_draw_at_the_ends_of_their_controls() -> None:
    for distance, speed in ((0.0, -2.0), (3.0, 2.0)):
        assert png(widgets.draw_camera(distance, 180, speed), dpi=40)
    for size, smooth in ((2, 0.0), (6, 0.9)):
        assert png(widgets.draw_sharing(size, study.READS[1], study.BENDS[1], smooth), dpi=40)
