"""The study of K-FAC: fast truths against slow ones, exactness where theory promises it."""

import pytest
import torch

from kfcpo_lib import kfac_study
from kfcpo_lib.fisher import exact_fisher
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.widgets.kfac import network


def test_jacobian_fisher_is_the_exact_fisher() -> None:
    policy, obs = kfac_study.tiny_policy(), kfac_study.states(20, seed=3)
    truth = exact_fisher(policy, obs)
    torch.testing.assert_close(kfac_study.jacobian_fisher(policy, obs), truth)


def test_layer_slices_cover_all_parameters() -> None:
    policy = kfac_study.tiny_policy()
    slices = kfac_study.layer_slices(policy).values()
    covered = [i for where in slices for i in range(where.start, where.stop)]
    assert covered == list(range(sum(p.numel() for p in policy.parameters())))


def test_tile_order_makes_the_block_a_kronecker_product() -> None:
    policy, obs = kfac_study.tiny_policy(), kfac_study.states(30, seed=1)
    kfac = KFAC(policy)
    kfac.update_factors(obs)
    order = kfac_study.tile_order(policy)
    where = kfac_study.layer_slices(policy)["layer 2"]
    block = kfac.dense()[order][:, order][where, where]
    product = torch.kron(kfac.blocks[1].output_factor, kfac.blocks[1].input_factor)
    torch.testing.assert_close(block, product)


def test_blocks_are_exact_without_bends_and_in_the_last_layer() -> None:
    obs = kfac_study.states(100, seed=1)
    bent = kfac_study.block_errors(network("tanh"), obs)
    straight = kfac_study.block_errors(network("none (linear)"), obs)
    linear = kfac_study.block_errors(kfac_study.LinearPolicy(4, 2).double(), obs)
    assert max(straight.values()) < 1e-9
    assert max(linear.values()) < 1e-9
    assert bent["layer 3"] < 1e-9 < bent["layer 2"] < bent["layer 1"]


def test_step_quality_of_the_exact_direction_is_one() -> None:
    policy, obs = kfac_study.tiny_policy(), kfac_study.states(100, seed=1)
    fisher = kfac_study.jacobian_fisher(policy, obs)
    gradient = kfac_study.aiming_gradient(policy, obs)
    natural = torch.linalg.solve(kfac_study.metric(fisher), gradient)
    assert kfac_study.step_quality(natural, gradient, fisher) == pytest.approx(1.0)
    assert kfac_study.step_quality(gradient, gradient, fisher) < 0.9


def test_replay_agrees_with_the_library() -> None:
    drift = kfac_study.Drift.simulate(updates=3)
    qualities, errors = drift.replay(damping=0.01, decay=0.8)
    assert all(0 < q <= 1 for q in qualities)
    policy = kfac_study.tiny_policy()
    kfac = KFAC(policy, damping=0.01)
    kfac.update_factors(kfac_study.states(10, seed=100))
    moment = drift.moments[0]
    x = kfac.precondition(moment.gradient)
    fisher = moment.judge - kfac_study.REFERENCE_DAMPING * torch.eye(len(moment.judge))
    assert kfac_study.step_quality(x, moment.gradient, fisher) == pytest.approx(qualities[0])
    many = KFAC(policy)
    many.update_factors(kfac_study.states(300, seed=1))
    start = 2
    error = kfac_study.relative_error(kfac.dense()[start:, start:], many.dense()[start:, start:])
    assert errors[0] == pytest.approx(error)


def test_statistics_period_as_long_as_the_drift_keeps_the_first_minibatch() -> None:
    drift = kfac_study.Drift.simulate(updates=4)
    drift.replay(damping=0.01, decay=0.8, statistics_period=4)
    for block, (a, g) in zip(drift.kfac.blocks, drift.moments[0].seen_factors, strict=True):
        torch.testing.assert_close(block.input_factor, a)
        torch.testing.assert_close(block.output_factor, g)
    rare, frequent = (drift.replay(0.01, 0.8, statistics_period=period)[1] for period in (3, 1))
    assert rare[0] == frequent[0]
    assert rare[1] != frequent[1]


def test_an_even_start_weighs_minibatches_by_their_age() -> None:
    drift, decay = kfac_study.Drift.simulate(updates=3), 0.9
    drift.replay(damping=0.01, decay=decay, even_start=True)
    weights = [decay**age for age in (2, 1, 0)]
    for i, block in enumerate(drift.kfac.blocks):
        seen = [moment.seen_factors[i][0] for moment in drift.moments]
        mean = sum(w * a for w, a in zip(weights, seen, strict=True)) / sum(weights)
        torch.testing.assert_close(block.input_factor, mean)
    first = drift.replay(0.01, decay, even_start=True)[1][0]
    assert first == drift.replay(0.01, decay)[1][0]


def test_costs_grow_as_they_should() -> None:
    small, large = (kfac_study.cost_of((60, n, n, 2), 2_000) for n in (64, 256))
    assert small["K-FAC"] < small["conjugate gradient"] < small["dense matrix"]
    assert large["dense matrix"] / small["dense matrix"] > 90
