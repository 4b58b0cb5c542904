"""Every control of notebook 07's explorers changes the picture."""

import numpy as np
import pandas as pd

from kfcpo_lib.plots.from_scratch import Plane
from kfcpo_lib.widgets.from_scratch import parts_explorer, step_explorer


def moved(explorer, **values):
    for name, value in values.items():
        before = explorer.picture.value
        explorer.controls[name].value = value
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
    assert set(values) == set(explorer.controls)


def test_the_trial_step_turns():
    axis = np.linspace(-0.25, 0.25, 9)
    kl = 0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2)
    plane = Plane(np.array([1.0, 0.0]), np.array([-0.6, 0.8]), axis, kl)
    explorer = step_explorer(plane)
    moved(explorer, conflict="none", cost_weight=0.8, log10_delta=-3.0, kl_limit=0.01)
    explorer.controls["log10_delta"].value = -1.6


def test_the_parts_turn():
    def table(shift):
        numbers = np.sin(np.arange(12) + shift) + 2.0
        columns = dict.fromkeys(("return_mean", "episodic_cost_mean", "kl"), numbers)
        frame = pd.DataFrame({"epoch": np.arange(1, 13), **columns})
        return frame.assign(cost_limit=10.0, margin_lambda=0.8, kl_limit=0.02)

    explorer = parts_explorer({"full": [table(0)], "none": [table(1)], "half": [table(2)]})
    moved(explorer, part="half", against="none", window=1)
