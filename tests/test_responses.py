"""How return and cost change under a weight: blocks of epochs against their neighbours."""

import numpy as np
import pandas as pd

from kfcpo_lib.plots import ablations as draw
from kfcpo_lib.responses import by_weight, responses, responses_near


def record_of(weights: list[float], gain: float) -> pd.DataFrame:
    """The return grows by `gain` an epoch, the cost falls by one; the last weight goes on."""
    epochs = np.arange(len(weights))
    return pd.DataFrame(
        {
            "env_steps": 100 * (epochs + 1),
            "return_mean": gain * epochs,
            "episodic_cost_mean": 40.0 - epochs,
            "cost_weight": weights,
        }
    )


def test_a_steady_change_is_found_in_every_pair_of_blocks():
    pairs = responses(record_of([0.5, 0.7, 0.6, 0.8, 0.9, 0.9, 0.1], gain=2.0), block=2)
    assert list(pairs["return"]) == [4.0, 4.0]
    assert list(pairs["episodic cost"]) == [-2.0, -2.0]
    assert list(pairs["cost"]) == [39.5, 37.5]
    assert list(pairs["env_steps"]) == [200, 400]
    np.testing.assert_allclose(pairs["weight"], [0.6, 0.7])


def test_only_pairs_near_the_limit_and_late_enough_count():
    records = [record_of([0.5] * 30, gain) for gain in (1.0, 3.0)]
    pairs = responses_near(records, (20.0, 30.0), after=1_200)
    assert list(pairs["cost"]) == [28.0, 23.0] * 2
    assert list(pairs["return"]) == [5.0, 5.0, 15.0, 15.0]
    assert len(responses_near(records, (20.0, 30.0), after=2_000)) == 2


def test_bins_of_the_weight_have_names_and_empty_ones_are_left_out():
    weights = np.repeat([0.65, 0.95], 10)
    pairs = responses_near([record_of(list(weights), gain=1.0)], (0, 99), 0)
    assert [*by_weight(pairs, (0.5, 0.7, 0.9, 1.0))] == ["0.5 to 0.7", "0.9 to 1"]


def test_a_training_counts_once_however_many_blocks_it_has():
    long, short = record_of([0.6] * 60, gain=1.0), record_of([0.6] * 10, gain=3.0)
    found = by_weight(responses_near([long, short], (-99, 99), 0), (0.5, 0.7))["0.5 to 0.7"]
    assert list(found["return"]) == [5.0, 15.0]
    assert list(found["episodic cost"]) == [-5.0, -5.0]
    assert list(found["blocks"]) == [11, 1]


def test_the_picture_has_a_panel_a_measure_and_a_bar_a_bin():
    records = [record_of([0.6] * 60, gain) for gain in (0.5, 1.5)]
    bins = by_weight(responses_near(records, (0, 99), 0), (0.5, 0.7, 0.9))
    figure = draw.draw_responses(bins)
    assert [axes.get_title() for axes in figure.axes] == [
        "Change of the return",
        "... and of the cost",
    ]
    for axes, change in zip(figure.axes, (5.0, -5.0), strict=True):
        diamonds = [line for line in axes.get_lines() if line.get_marker() == "D"]
        assert [line.get_ydata()[0] for line in diamonds] == [change]
