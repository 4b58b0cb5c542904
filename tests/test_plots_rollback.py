"""The pictures of notebook 06 draw, also at extreme values; their numbers are right."""

import numpy as np
import pytest
import torch

from kfcpo_lib.drift import simulate_drift
from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.plots import rollback
from kfcpo_lib.plots.style import png


def test_the_three_distances_are_those_of_the_library():
    old = Gaussian(torch.zeros(1, 1), torch.zeros(1))
    new = Gaussian(torch.full((1, 1), 0.7), torch.full((1,), -0.4))
    kls = rollback.gaussian_kls(0.7, -0.4)
    assert kls["KL(old ‖ new)"] == pytest.approx(float(old.kl(new)))
    assert kls["KL(new ‖ old)"] == pytest.approx(float(new.kl(old)))
    small = rollback.gaussian_kls(1e-3, 1e-3)
    assert small["predicted"] == pytest.approx(small["KL(old ‖ new)"], rel=0.01)


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (rollback.draw_gaussians, (3.0, -1.5)),
        (rollback.draw_gaussians, (0.0, 0.0)),
        (rollback.draw_drift, (0.005, -1.0, False, "epoch", 1.0)),
        (rollback.draw_drift, (0.03, -5.0, True, "none", 0.0)),
        (rollback.draw_limits, ({"a": [0.0, 1.0], "b": [1.0, 0.0]}, [0.005, 0.02])),
        (rollback.draw_predicted, ({"a": (np.array([1e-9, 9.0]), np.array([1e-8, 99.0]))},)),
        (rollback.draw_worth, (np.array([1e-4, 9.0]), np.array([-1.0, -9.0]), -np.ones((2, 2)))),
    ],
)
def test_pictures_draw_at_extreme_values(draw, values):
    assert png(draw(*values)).startswith(b"\x89PNG")


def test_trials_are_drawn():
    runs = {name: simulate_drift(0.01, 1e-3, rollback=name) for name in ("minibatch", "epoch")}
    for figure in (
        rollback.draw_trials(runs, 0.01, 10),
        rollback.draw_delta(runs, 0.01),
        rollback.draw_promise(runs, 1e-3),
    ):
        assert png(figure).startswith(b"\x89PNG")
