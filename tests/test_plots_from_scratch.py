"""The pictures of notebook 07 draw, also at extreme values; its stored runs are what they say."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from kfcpo_lib.benchmarks import parts
from kfcpo_lib.fisher import ConjugateGradientFisher
from kfcpo_lib.plots import from_scratch as draw
from kfcpo_lib.plots.style import png
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Minibatch
from kfcpo_lib.runs import read_config, read_progress


def a_plane(reach=0.25):
    generator = torch.Generator().manual_seed(0)
    policy = GaussianPolicy(4, 2, (5,), generator=generator)
    before = [p.detach().clone() for p in policy.parameters()]
    obs = torch.randn(50, 4, generator=generator)
    metric = ConjugateGradientFisher(policy, 1e-3)
    metric.update_factors(obs)
    size = sum(p.numel() for p in policy.parameters())
    pair = torch.randn(2, size, generator=generator)
    units = [v / metric.inner(v, v).sqrt() for v in pair]
    plane = draw.plane_of(policy, obs, *units, metric.inner, reach, points=9)
    same = all(torch.equal(p, old) for p, old in zip(policy.parameters(), before, strict=True))
    return plane, same


def a_table(epochs=3):
    table = pd.DataFrame({"epoch": np.arange(1, epochs + 1)})
    for name in ("return_mean", "episodic_cost_mean", "kl"):
        table[name] = np.arange(epochs) + 0.5
    return table.assign(cost_limit=10.0, margin_lambda=0.8, kl_limit=0.02)


def test_the_plane_is_the_true_kl_and_leaves_the_policy_alone():
    plane, same = a_plane(reach=0.02)
    assert same
    assert np.linalg.norm(plane.cost) == pytest.approx(1.0)
    x, y = np.meshgrid(plane.axis, plane.axis)
    predicted = 0.5 * (x**2 + y**2)
    assert plane.kl == pytest.approx(predicted, rel=0.15, abs=2e-6)
    corner = np.array([plane.axis[2], plane.axis[1]])
    assert draw.kl_at(plane, corner) == pytest.approx(plane.kl[1, 2])
    assert draw.kl_at(plane, np.array([1.0, 0.0])) == math.inf


@pytest.mark.parametrize("values", [(0.0, -4.0, 0.005, "none"), (1.0, 0.0, 0.03, "project_both")])
def test_steps_draw(values):
    assert png(draw.draw_plane(a_plane()[0], *values)).startswith(b"\x89PNG")


def test_map_episode_factors_and_trials_draw():
    eye = torch.eye(3)
    trials = [Minibatch(0.5, False, 1e-6, math.nan), Minibatch(0.0, True, 0.02, 1.0)]
    for figure in (
        draw.draw_map(),
        draw.draw_episode(np.zeros((1, 14)), np.zeros(1), "one step"),
        draw.draw_factors([(eye, 0.0 * eye)]),
        draw.draw_trials(trials, 0.02, per_epoch=1),
    ):
        assert png(figure).startswith(b"\x89PNG")


def test_parts_draw():
    runs = {"full": [a_table(), a_table()], "other": [a_table(1)]}
    for figure in (
        draw.draw_parts(runs),
        draw.draw_part(runs, "other"),
        draw.draw_part(runs, "full", window=1),
    ):
        assert png(figure).startswith(b"\x89PNG")


def test_a_part_that_is_taken_away_is_told_in_the_runs_settings():
    assert parts.config_of("full", 1, 300_000).rule == {"minibatch_size": 1_000, "damping": 0.01}
    assert parts.config_of("no_projection", 0, 300_000).rule["conflict"] == "none"
    assert parts.config_of("no_blending", 0, 300_000).steepness_k == 1_000.0


def test_stored_runs_are_made_by_the_command(tmp_path):
    words = ["--out", str(tmp_path), "--seeds", "1", "--steps", "10000"]
    assert parts.main([*words, "--parts", "plain_gradient"]) == 0
    made = parts.read_parts(tmp_path)
    assert [len(made[name]) for name in ("plain_gradient", "no_rollback")] == [1, 0]
    files = sorted(path.name for path in (tmp_path / "plain_gradient_0").iterdir())
    assert files == ["config.json", "progress.csv"]


@pytest.mark.parametrize("part", parts.PARTS)
def test_committed_runs_have_the_configuration_of_the_command(part):
    folders = sorted(parts.STORED.glob(f"{part}_[0-9]"))
    assert len(folders) >= 2
    for seed, folder in enumerate(folders):
        stored = read_config(folder)["settings"]
        wanted = parts.config_of(part, seed, 300_000)
        assert {name: stored[name] for name in ("rule", "steepness_k", "seed", "kl_limit")} == {
            "rule": wanted.rule,
            "steepness_k": wanted.steepness_k,
            "seed": seed,
            "kl_limit": 0.02,
        }
        assert len(read_progress(folder)) == wanted.epochs
