"""Pictures and windows go through the whole training: collected, learnt from, stored, resumed."""

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import content

from kfcpo_lib import TrainConfig, train
from kfcpo_lib.evaluation import evaluate, load_policy

KINDS = {
    "cnn": "PointMassPixels-v0",
    "gru": "PointMassFlickerWindow-v0",
    "mlp": "PointMassFlicker-v0",
}


def config(kind: str, folder: Path, **changes: Any) -> TrainConfig:
    settings = {
        "env_id": KINDS[kind],
        "network": kind,
        "hidden_sizes": (6, 5),
        "num_envs": 2,
        "steps_per_epoch": 140,
        "total_steps": 420,  # the first whole episode ends in the third epoch
        "critic_passes": 1,
        "critic_minibatch": 70,
        "rule": {"minibatch_size": 70},
        "run_dir": str(folder),
    }
    return TrainConfig(**(settings | changes))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_cut_and_resumed_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    reports = list(train(config(kind, whole)))
    assert any(minibatch.committed for report in reports for minibatch in report.details)
    next(first := train(config(kind, cut)))
    first.close()  # type: ignore[attr-defined]
    list(train(config(kind, cut), resume=True))
    assert content(whole) == content(cut)
    assert load_policy(whole)[0].network == kind
    assert evaluate(whole, 2).returns.shape == (2,)


@pytest.mark.parametrize("natural_gradient", ["kfac", "cg"])
@pytest.mark.parametrize("kind", ["cnn", "gru"])
def test_a_step_of_kfcpo_has_the_kl_that_was_asked_for(
    kind: str, natural_gradient: str, tmp_path: Path
) -> None:
    """delta is the KL of a step to second order, less what the damping takes; K-FAC is rough."""
    rule = {
        "minibatch_size": 140,
        "delta_start": 1e-3,
        "natural_gradient": natural_gradient,
        "adaptive_delta": False,
        "rollback": "none",
    }
    [report] = train(config(kind, tmp_path, total_steps=140, rule=rule))
    [minibatch] = report.details
    high = 1.3 if natural_gradient == "cg" else 5.0
    assert 0.05e-3 < minibatch.kl < high * 1e-3


def test_a_network_that_does_not_fit_the_world_is_refused_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network must be one of mlp, cnn, gru, got 'resnet'"):
        TrainConfig(network="resnet")
    with pytest.raises(ValueError, match=r"pictures .*, got observations of shape \(14,\)"):
        train(config("cnn", tmp_path / "run", env_id="PointMass-v0"))
    assert not (tmp_path / "run" / "config.json").exists()
