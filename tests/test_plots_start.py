"""The pictures of notebook 00 draw, also at extreme values; tracks are whole episodes."""

import math

import numpy as np
import pytest

from kfcpo_lib.plots import start as draw
from kfcpo_lib.plots.style import png
from kfcpo_lib.policies import GaussianPolicy, ObservationNormaliser
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.runs import RunWriter
from kfcpo_lib.tracks import Track, middle_world, watch


def a_track(steps=4, hurt=True):
    path = np.linspace([0.0, 0.0], [1.0, 1.0], steps + 1)
    goal = np.where(np.arange(steps + 1)[:, None] < 2, [[1.0, 0.0]], [[0.0, 1.0]])
    sizes = {"goal": 0.3, "hazards": 0.2}
    hazards = {"hazards": np.eye(2)[None].repeat(steps + 1, axis=0)}
    return Track(path, np.ones(steps), np.full(steps, float(hurt)), goal, hazards, sizes)


@pytest.mark.parametrize("until", [None, 0, 2, 99])
def test_agents_draw(until):
    figure = draw.draw_agents({"one": a_track(), "two": a_track(2, hurt=False)}, until)
    assert png(figure).startswith(b"\x89PNG")


def test_a_vase_is_drawn():
    bare, cluttered = a_track(), a_track()
    cluttered.objects["vases"] = np.full((5, 1, 2), 0.4)
    assert png(draw.draw_agents({"one": bare})) != png(draw.draw_agents({"one": cluttered}))


def test_goals_reached_are_counted():
    assert a_track().goals_reached.tolist() == [2]


def test_the_middle_world_is_the_one_with_the_median_difference():
    costs = [(30.0, 10.0), (5.0, 5.0), (8.0, 1.0), (0.0, 9.0), (7.0, 4.0)]
    ones, others = ([a_track(1, hurt=cost) for cost in agent] for agent in zip(*costs, strict=True))
    assert middle_world(ones, others) == 4
    assert middle_world(ones[:1], others[:1]) == 0


def test_the_others_draw():
    view = draw.View(
        np.linspace(-2, 2, 20), {"gyro": slice(0, 4), "goal_lidar": slice(4, 20)}, np.zeros(2), 0.3,
        {"goal": np.ones((1, 2))}, {"goal": 0.3},
    )  # fmt: skip
    place = np.zeros(2)
    sizes = {"goal": 0.3, "hazards": 0.2}
    for figure in (
        draw.draw_bill({"one": a_track()}, 25.0),
        draw.draw_view(view),
        draw.draw_lidar(0.1, 0.0),
        draw.draw_lidar(3.5, 360.0),
        draw.draw_step(place, place, place, np.zeros((0, 2)), sizes),
    ):
        assert png(figure).startswith(b"\x89PNG")


def test_a_lidar_feels_the_bin_of_its_object_most():
    felt = draw.lidar_of(np.array([[-0.1, 1.0]]))
    assert felt.argmax() == 4
    assert felt.max() == pytest.approx((3.0 - 1.01**0.5) / 3.0)
    assert not draw.lidar_of(np.array([[0.0, 3.1]])).any()


def test_watching_a_stored_run(tmp_path):
    config = TrainConfig(run_dir=str(tmp_path / "run"), num_envs=1, steps_per_epoch=10)
    policy = GaussianPolicy(60, 2, (4,))
    writer = RunWriter.open(config, resume=False)
    writer.begin(config)
    writer.save_policy(
        {
            "env_id": config.env_id,
            "obs_dim": 60,
            "act_dim": 2,
            "hidden_sizes": [4],
            "env_steps": 0,
            "policy": policy.state_dict(),
            "normaliser": ObservationNormaliser(60).state_dict(),
        }
    )
    writer.close()
    first, again = (watch(tmp_path / "run", worlds=2, steps=12) for _ in range(2))
    assert len(first) == 2
    assert first[0].path.shape == (13, 2)
    assert first[0].cost.shape == (12,)
    assert np.array_equal(first[1].path, again[1].path)
    assert math.isfinite(first[1].reward.sum())
