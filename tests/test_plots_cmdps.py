"""Every picture of notebook 04 draws, at its extremes too."""

import numpy as np
import pytest

from kfcpo_lib import cmdp as tabular
from kfcpo_lib.plots import cmdps
from kfcpo_lib.plots.style import png
from kfcpo_lib.widgets.cmdps import ascend, draw_front_at, draw_ruler_at, flooded_town

ROWS = tabular.FLOODED_TOWN


def test_maps_show_the_town_its_policies_and_visits():
    town, corners = flooded_town()
    assert png(cmdps.draw_town(ROWS))
    uniform = np.full((51, 4), 0.25)
    bold = cmdps.draw_policies(ROWS, town, {"bold": corners[-1].policy})
    assert png(bold) != png(cmdps.draw_policies(ROWS, town, {"bold": uniform}))
    assert png(cmdps.draw_visits(ROWS, tabular.occupancy(town, uniform), "visits"))


@pytest.mark.parametrize("limit", [0.0, 0.05, 2.0, 100.0])
def test_the_limit_draws_anywhere(limit):
    assert png(draw_front_at(limit))


@pytest.mark.parametrize("multiplier", [0.0, 0.05, 5.0])
def test_the_ruler_draws_anywhere(multiplier):
    assert png(draw_ruler_at(multiplier, 2.0))


def test_curves_draw():
    _, corners = flooded_town()
    others = np.array([[1.0, 0.5], [3.0, 0.6]])
    assert png(cmdps.draw_front(corners, others, {"free": corners[-1]}))
    limits = np.linspace(0.1, 6.0, 5)
    assert png(cmdps.draw_choice(limits, np.sqrt(limits), 1 / limits, 4.7))
    assert png(cmdps.draw_staircase(corners, 2.0))
    for rate in (0.0, 0.005, 1.0):
        assert png(cmdps.draw_ascent(*ascend(2.0, rate, 30), 2.0, 0.03))
    assert png(cmdps.draw_episodes({"dry": np.zeros(5), "wet": np.arange(9.0)}, 2.0))


def test_coins_are_found_where_the_best_policy_tosses_one():
    town, corners = flooded_town()
    assert cmdps.coin_cells(town, corners[-1].policy) == []
    assert len(cmdps.coin_cells(town, tabular.solve(town, 2.0).policy)) == 1
