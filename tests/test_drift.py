"""The simulated drift behind notebook 06."""

import math

import pytest

from kfcpo_lib.drift import balanced_rollbacks, share_undone, simulate_drift


def test_without_rollback_the_kl_grows_as_the_geometry_says():
    trials = simulate_drift(0.01, 1e-3, adaptive=False, rollback="none", agreement=1.0, epochs=1)
    assert [t.kl for t in trials] == pytest.approx([1e-3 * n**2 for n in range(1, 11)])
    assert all(t.committed for t in trials)


def test_every_kept_step_is_within_the_limit():
    trials = simulate_drift(0.01, 1e-2, epochs=30)
    assert all(t.committed == (t.kl <= 0.01) for t in trials)


def test_an_adaptive_delta_balances_and_a_fixed_one_can_stall():
    trials = simulate_drift(0.01, 1e-3, epochs=200)
    assert share_undone(trials) == pytest.approx(balanced_rollbacks(), abs=0.02)
    assert share_undone(simulate_drift(0.005, 1e-2, adaptive=False)) == 1.0
    f = balanced_rollbacks()
    assert (1 - f) * math.log(1.05) + f * math.log(0.7) == pytest.approx(0.0)


def test_unknown_rollbacks_are_refused_and_of_no_trials_there_is_no_share():
    with pytest.raises(ValueError, match="one of minibatch, epoch, none, got 'epochs'"):
        simulate_drift(0.01, 1e-3, rollback="epochs")
    assert math.isnan(share_undone(simulate_drift(0.01, 1e-3, epochs=0)))


def test_an_epoch_is_kept_or_undone_as_a_whole():
    trials = simulate_drift(0.01, 1e-3, rollback="epoch", epochs=20)
    for start in range(0, len(trials), 10):
        epoch = trials[start : start + 10]
        assert len({t.committed for t in epoch}) == 1
        assert epoch[0].committed == (epoch[-1].kl <= 0.01)
