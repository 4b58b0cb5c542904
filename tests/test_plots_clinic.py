"""The pictures of notebook 11 draw, also at extreme values; its explorer turns."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd

from kfcpo_lib.plots import clinic as draw
from kfcpo_lib.plots.style import png
from kfcpo_lib.records import Minibatch
from kfcpo_lib.widgets.clinic import numbered, ward_explorer


def a_table(shift=0.0, epochs=12):
    numbers = np.sin(np.arange(epochs) + shift) + 2.0
    names = ("return_mean", "episodic_cost_mean", "delta", "kl")
    losses = ("value_loss_reward", "value_loss_cost")
    columns = dict.fromkeys((*names, *losses), numbers)
    frame = pd.DataFrame({"epoch": np.arange(1, epochs + 1), **columns})
    constants = {"cost_limit": 2.5, "margin_lambda": 0.8, "kl_limit": 0.02, "steepness_k": 0.3}
    return frame.assign(**constants, cost_weight=0.5, rollbacks=1, minibatches=8)


def a_run(kl=0.1, cosine=0.5):
    trials = [Minibatch(kl, True, 1e-3, cosine), Minibatch(math.nan, False, 1e-3, math.nan)]
    return [SimpleNamespace(epoch=epoch, details=trials) for epoch in (1, 2)]


def test_everything_draws():
    for figure in (
        draw.draw_chart(a_table(), a_table(1.0), fell_ill=4, window=3),
        draw.draw_chart(a_table(epochs=1), a_table().assign(episodic_cost_mean=np.nan)),
        draw.draw_cosines({"one": a_run()}),
        draw.draw_cosines({"healthy": a_run(), "patient": a_run(cosine=-1.0)}),
        draw.draw_promises({"healthy": a_run(), "patient": a_run(kl=1e6)}),
        draw.draw_chart(a_table(), a_table(1.0), names=("one", "other")),
        draw.draw_weight_law({"healthy": a_table(), "patient": a_table(2.0)}),
        draw.draw_weight_law({"healthy": a_table(), "ill": a_table(2.0), "long": a_table(3.0)}),
        draw.draw_critics(a_table(), a_table(3.0), fell_ill=2),
        draw.draw_end_of_episode({"right": np.zeros(5), "wrong": -np.arange(5.0)}),
    ):
        assert png(figure).startswith(b"\x89PNG")


def test_limit_and_centre_are_those_of_each_epoch():
    run = a_table().assign(cost_limit=[20.0] * 8 + [10.0] * 4)
    figure = draw.draw_chart(run, a_table(), fell_ill=8)
    limit, centre = (patch.get_data() for patch in figure.axes[1].patches)
    assert limit.values.tolist() == run["cost_limit"].tolist()
    assert centre.values.tolist() == (0.8 * run["cost_limit"]).tolist()
    assert limit.edges.tolist() == centre.edges.tolist() == [n + 0.5 for n in range(13)]


def test_every_control_of_the_ward_changes_the_picture():
    explorer = ward_explorer({"healthy": a_table(), "ill": a_table(1.0), "worse": a_table(2.0)})
    moves = {"run": "run 1", "beside": "run 2", "window": 4, "key": True}
    for name, value in moves.items():
        before = explorer.picture.value
        explorer.controls[name].value = value
        assert explorer.picture.value != before, name
        assert explorer.message.value == ""
    assert {*explorer.controls} == {*moves}


def test_the_ward_names_the_healthy_only():
    ill = [f"illness {letter}" for letter in "abcdef"]
    name_of = numbered(["healthy", *ill, "healthy, 30 epochs"])
    assert [*name_of] == ["healthy", "healthy, 30 epochs", *(f"run {n}" for n in range(1, 7))]
    assert sorted(name_of.values()) == sorted(["healthy", *ill, "healthy, 30 epochs"])
    assert [*name_of.values()][2:] != ill
