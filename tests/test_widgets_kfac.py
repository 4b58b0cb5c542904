"""Explorers of notebook 03: moving each control changes the picture."""

from collections.abc import Callable
from typing import Any

import pytest

from kfcpo_lib.widgets import Explorer
from kfcpo_lib.widgets import kfac as widgets

MOVES = [
    (widgets.block_explorer, {"layer": "layer 2", "bend": "none (linear)", "count": 5}),
    (
        widgets.drift_explorer,
        {"log_damping": -3.0, "decay": 0.5, "inverse_period": 5, "statistics_period": 4},
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
