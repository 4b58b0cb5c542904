"""Every control of notebook 01's explorers changes the picture."""

import pytest

from kfcpo_lib.widgets.policy_gradients import (
    estimates_explorer,
    gae_explorer,
    surrogate_explorer,
)

OTHER = {
    "batch_size": 30,
    "reward_offset": 2.0,
    "gae_lambda": 0.5,
    "critic_error": 0.0,
    "new_mean": 2.0,
    "samples": 50,
    "seed": 3,
}


@pytest.mark.parametrize("make", [estimates_explorer, gae_explorer, surrogate_explorer])
def test_every_control_changes_the_picture(make):
    explorer = make()
    for name, control in explorer.controls.items():
        before = explorer.picture.value
        control.value = OTHER[name]
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
