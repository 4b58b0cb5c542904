"""Every control of notebook 05's explorers changes the picture."""

import pytest

from kfcpo_lib.widgets.blending import blending_explorer, controller_explorer, metric_explorer

OTHER = {
    "margin_lambda": 0.5,
    "log10_k": -1.0,
    "episodic_cost": 10.0,
    "angle": 60.0,
    "conflict": "none",
    "stretch": 1.0,
    "name": "Lagrangian",
    "signal": 0.5,
    "episodes": 20,
}


@pytest.mark.parametrize("make", [blending_explorer, metric_explorer, controller_explorer])
def test_every_control_changes_the_picture(make):
    explorer = make()
    other = OTHER | {"window": 5}
    if make is controller_explorer:
        other |= {"conflict": 0.3}
    for name, control in explorer.controls.items():
        before = explorer.picture.value
        control.value = other[name]
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
        if name == "name":
            control.value = "KFCPO: margin-aware"
