"""Every control of notebook 04's explorers changes the picture."""

import pytest

from kfcpo_lib import cmdp as tabular
from kfcpo_lib.widgets.cmdps import (
    ascend,
    ascent_explorer,
    flooded_town,
    limit_explorer,
    ruler_explorer,
)

OTHER = {"cost_limit": 1.0, "slip": 0.2, "multiplier": 0.01, "log10_rate": -3.0, "iterations": 60}


@pytest.mark.parametrize("make", [limit_explorer, ruler_explorer, ascent_explorer])
def test_every_control_changes_the_picture(make):
    explorer = make()
    for name, control in explorer.controls.items():
        before = explorer.picture.value
        control.value = OTHER[name]
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""


def test_a_limit_that_nothing_keeps_is_told_in_words():
    explorer = limit_explorer()
    explorer.controls["cost_limit"].min = -1.0
    explorer.controls["cost_limit"].value = -1.0
    assert "no policy keeps" in explorer.message.value


def test_looking_up_corners_is_dual_ascent():
    costs, multipliers = ascend(2.0, 0.005, 30)
    exact = tabular.dual_ascent(flooded_town()[0], 2.0, 0.005, 30)
    assert costs == pytest.approx([answer.expected_cost for answer in exact], abs=1e-6)
    assert multipliers == pytest.approx([answer.multiplier for answer in exact], abs=1e-6)
