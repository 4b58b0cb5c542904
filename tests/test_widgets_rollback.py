"""Every control of notebook 06's explorers changes the picture."""

import pytest

from kfcpo_lib.widgets.rollback import drift_explorer, gaussian_explorer

OTHER = {
    "shift": 1.0,
    "log_ratio": 0.5,
    "kl_limit": 0.02,
    "log10_delta": -2.0,
    "adaptive": False,
    "rollback": "epoch",
    "agreement": 0.9,
}


@pytest.mark.parametrize("make", [gaussian_explorer, drift_explorer])
def test_every_control_changes_the_picture(make):
    explorer = make()
    for name, control in explorer.controls.items():
        before = explorer.picture.value
        control.value = OTHER[name]
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
