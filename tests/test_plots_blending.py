"""The pictures of notebook 05 draw, also at extreme values."""

import pytest

from kfcpo_lib.blending import CONFLICT_MODES
from kfcpo_lib.controllers import HardSwitch, MarginAware, ShoreWalk, simulate, switching_budget
from kfcpo_lib.plots import blending
from kfcpo_lib.plots.style import png


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (blending.draw_conflict, (179.0,)),
        (blending.draw_weights, (1.0, 10.0, 40.0)),
        (blending.draw_weights, (0.01, 0.001, 0.0)),
        (blending.draw_blending, (0.3, -2.0, 0.0, 175.0, "project_both")),
        (blending.draw_blending, (1.0, 1.0, 40.0, 20.0, "none")),
        (blending.draw_blend, (180.0, 0.5, CONFLICT_MODES)),
        (blending.draw_metric, (0.25, 160.0)),
        (blending.draw_rest, ({"here": (0.99, 30.0)}, 0.8, 0.3, 20.0)),
        (blending.draw_noise, ([0.01, 10.0], [1.0, 2.0], [40.0, 3.0], [40.0, 0.1], 20.0)),
        (blending.draw_budget, (switching_budget(steps=1),)),
    ],
)
def test_pictures_draw_at_extreme_values(draw, values):
    assert png(draw(*values)).startswith(b"\x89PNG")


def test_traces_are_drawn():
    walk = ShoreWalk()
    traces = {"a": simulate(walk, HardSwitch(), epochs=4), "b": simulate(walk, MarginAware())}
    for figure in (
        blending.draw_controllers(traces, 20.0, 16.0),
        blending.draw_shore(traces, -0.84),
        blending.draw_controller(simulate(walk, MarginAware(), episodes=2), 20.0, 16.0, "noisy"),
    ):
        assert png(figure).startswith(b"\x89PNG")
