"""The studio's instruments draw in every case, and show what they are meant to show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from kfcpo_lib.plots.studio import draw_instruments, draw_stage
from kfcpo_lib.plots.style import COST, small_png
from kfcpo_lib.recordings import NO_MINIBATCHES, Recording
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.tracks import Track
from kfcpo_lib.widgets.run_view import LIVE


def a_run(epochs=12, **columns):
    steps = 20_000 * np.arange(1, epochs + 1)
    given = {
        "epoch": np.arange(1, epochs + 1),
        "env_steps": steps,
        "return_mean": np.linspace(0, 5, epochs),
        "episodic_cost_mean": np.linspace(60, 20, epochs),
        "cost_weight": np.linspace(1, 0.5, epochs),
        "margin_lambda": 0.8,
        "steepness_k": 0.3,
        "kl_limit": 0.01,
        "cost_limit": 25.0,
        "conflict_cosine": -0.4,
    }
    trials = pd.DataFrame(
        {"epoch": np.repeat(steps // 20_000, 2), "kl": 0.008, "committed": True, "cosine": 0.1}
    )
    trials.loc[1, ["kl", "committed"]] = 0.02, False
    progress = pd.DataFrame(given | columns)
    return Recording(None, TrainConfig(), progress, trials, {})


def drawn(*runs, **whole):
    figure = draw_instruments({f"run {n}": run for n, run in enumerate(runs)}, **whole)
    picture = small_png(figure, *LIVE)
    assert picture.startswith(b"\x89PNG") and len(picture) < 100_000
    return dict(
        zip(("return", "cost", "weights", "sigmoid", "kl", "angle"), figure.axes, strict=True)
    )


def texts(panel):
    return [text.get_text().strip() for text in panel.texts]


NAN = float("nan")


@pytest.mark.parametrize(
    "run",
    [
        a_run(1),
        a_run(1, episodic_cost_mean=NAN, return_mean=NAN),
        a_run(cost_weight=NAN, conflict_cosine=NAN),
        a_run(episodic_cost_mean=1e6, steepness_k=10.0),
        a_run(3_000),
        replace(a_run(), minibatches=NO_MINIBATCHES),
    ],
    ids=["one epoch", "no episode yet", "no weights", "extreme", "long", "no minibatches"],
)
def test_instruments_draw(run):
    panels = drawn(run)
    assert ("not recorded" in texts(panels["kl"])) == run.minibatches.empty
    drawn(run, a_run(5))


def test_a_turn_is_marked_at_its_step():
    margin = np.repeat([0.8, 0.5], 6)
    panels = drawn(a_run(margin_lambda=margin))
    for name in ("return", "cost", "weights"):
        assert texts(panels[name]) == ["λ → 0.5"]
        assert panels[name].texts[0].get_position()[0] == 0.12
    centre = [line for line in panels["cost"].lines if line.get_label() == "centre λC"]
    assert [centre[0].get_ydata()[0], centre[0].get_ydata()[-1]] == [20.0, 12.5]


def test_the_present_cost_sits_on_the_sigmoid():
    panel = drawn(a_run())["sigmoid"]
    now = [line for line in panel.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert (now[0].get_xdata()[0], now[0].get_ydata()[0]) == (20.0, 0.5)
    assert "KFCPO's alone" not in panel.get_title()


def test_undone_minibatches_are_shown_apart():
    panel = drawn(a_run())["kl"]
    counts = {line.get_label(): len(line.get_xdata()) for line in panel.lines}
    assert (counts["kept"], counts["undone"]) == (23, 1)


def test_the_angle_is_that_of_the_cosine():
    assert drawn(a_run())["angle"].get_title() == "Angle: 114°"
    assert drawn(a_run(conflict_cosine=NAN))["angle"].get_title() == "Angle: one direction"


def test_what_is_to_come_stands_behind():
    whole = {"run 0": a_run(40)}
    panel = drawn(a_run(10), whole=whole)["return"]
    assert max(line.get_xdata()[-1] for line in panel.lines if len(line.get_xdata()) > 2) == 0.8


def a_track(steps=30, kinds=("hazards", "vases", "buttons", "gremlins"), heading=True):
    path = np.linspace([0.0, 0.0], [1.0, 1.0], steps + 1)
    objects = {kind: np.full((steps + 1, 2, 2), n / 4) for n, kind in enumerate(kinds)}
    cost = (np.arange(steps) % 3 == 0).astype(float)
    heading = np.zeros(steps + 1) if heading else np.zeros(0)
    sizes = dict.fromkeys(("goal", *kinds), 0.2)
    return Track(path, np.ones(steps), cost, path + 0.5, objects, sizes, heading)


@pytest.mark.parametrize("step", [0, 1, 30, 99])
def test_agents_from_above_draw(step):
    for track in (a_track(), a_track(kinds=(), heading=False)):
        assert len(small_png(draw_stage({"one": track}, step), *LIVE)) < 100_000
        small_png(draw_stage({"one": track, "two": a_track(5)}, step), *LIVE)


def test_the_trail_is_coloured_where_the_agent_paid():
    panel = draw_stage({"one": a_track(kinds=())}, 30).axes[0]
    free, paid = [c for c in panel.collections if hasattr(c, "get_segments")]
    assert (len(free.get_segments()), len(paid.get_segments())) == (20, 10)
    assert to_hex(paid.get_colors()[0]).upper() == COST
    assert panel.get_title() == "one\nstep 30: return 30.0, cost 10"
