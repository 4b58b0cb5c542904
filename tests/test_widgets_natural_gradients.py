"""Explorers of notebook 02: moving each control changes the picture."""

from collections.abc import Callable
from typing import Any

import pytest

from kfcpo_lib.widgets import Explorer
from kfcpo_lib.widgets import natural_gradients as widgets

MOVES = [
    (widgets.kl_explorer, {"mean_shift": 1.0, "log_std": -1.0, "log_ratio": 0.5}),
    (
        widgets.landscape_explorer,
        {
            "metric": "natural gradient",
            "coordinates": "mean, σ",
            "log_rate": 0.5,
            "start": "wide and far",
        },
    ),
    (widgets.valley_explorer, {"log_condition": 1.5, "iterations": 2}),
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
