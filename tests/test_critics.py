"""Fitting the two value functions: they learn, do not mix, and refuse what is not finite."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kfcpo_lib.critics import MAX_GRADIENT_NORM, CriticReport, fit_critics, make_optimiser
from kfcpo_lib.policies import Critics
from kfcpo_lib.rollouts import Batch


def batch_of(size: int = 60) -> Batch:
    """Targets that a small network can learn: smooth functions of two numbers."""
    obs = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(size)
    return Batch(
        obs=obs,
        actions=torch.zeros(size, 1),
        log_prob=zero,
        advantage_reward=zero,
        advantage_cost=zero,
        target_reward=obs.sum(1),
        target_cost=torch.tanh(obs[:, 0]) - 0.5,
        episode_length=10.0,
    )


def fresh() -> tuple[Critics, torch.optim.Adam]:
    critics = Critics(2, (8,), torch.Generator().manual_seed(1))
    return critics, make_optimiser(critics, 1e-2)


def fit(
    critics: Critics,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    passes: int = 2,
    minibatch: int = 20,
    seed: int = 2,
) -> CriticReport:
    generator = torch.Generator().manual_seed(seed)
    return fit_critics(critics, optimiser, batch, passes, minibatch, generator)


def numbers(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])


def test_both_critics_learn_their_own_targets() -> None:
    critics, optimiser = fresh()
    report = fit(critics, optimiser, batch_of(), passes=200)
    assert report.nonfinite == 0
    reward, cost = critics(batch_of().obs)
    # Variances of the targets are about 2 and 0.4: a fit explains at least 95 % of them.
    assert nn.functional.mse_loss(reward, batch_of().target_reward) < 0.1
    assert nn.functional.mse_loss(cost, batch_of().target_cost) < 0.02


def test_the_signals_do_not_mix() -> None:
    """Another reward target changes the reward critic, and no bit of the cost critic."""
    batch = batch_of()
    plain, other = fresh(), fresh()
    fit(*plain, batch)
    fit(*other, replace(batch, target_reward=100 * batch.target_reward))
    assert torch.equal(numbers(plain[0].cost), numbers(other[0].cost))
    assert not torch.equal(numbers(plain[0].reward), numbers(other[0].reward))
    fit(*plain, batch)
    fit(*other, replace(batch, target_cost=-100 * batch.target_cost))
    assert not torch.equal(numbers(plain[0].cost), numbers(other[0].cost))


class Recorder(torch.optim.SGD):
    """Plain gradient descent that remembers the gradients' norms it was given."""

    def __init__(self, critics: Critics) -> None:
        super().__init__(critics.parameters(), lr=0.1)
        self.critics, self.norms = critics, []

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.norms.append(
            [
                float(torch.cat([p.grad.reshape(-1) for p in network.parameters()]).norm())
                for network in (self.critics.reward, self.critics.cost)
            ]
        )
        super().step()


def test_each_critics_gradient_is_clipped_on_its_own() -> None:
    """A huge reward gradient does not shorten the cost critic's."""
    batch = batch_of()
    alone = Recorder(fresh()[0])
    fit(alone.critics, alone, batch, passes=1, minibatch=60)
    both = Recorder(fresh()[0])
    huge = replace(batch, target_reward=1e4 * batch.target_reward)
    fit(both.critics, both, huge, passes=1, minibatch=60)
    assert MAX_GRADIENT_NORM == 40.0
    assert alone.norms[0][0] < 40.0
    assert both.norms[0][0] == pytest.approx(40.0, rel=1e-4)
    assert both.norms[0][1] == alone.norms[0][1]


def test_one_step_is_gradient_descent_on_the_mean_squared_error() -> None:
    batch, optimiser = batch_of(), Recorder(fresh()[0])
    critics, (twin, _) = optimiser.critics, fresh()
    report = fit(critics, optimiser, batch, passes=1, minibatch=60)
    for network, target, loss in (
        (twin.reward, batch.target_reward, report.loss_reward),
        (twin.cost, batch.target_cost, report.loss_cost),
    ):
        error = ((network(batch.obs).squeeze(-1) - target) ** 2).mean()
        assert loss == pytest.approx(float(error.detach()), rel=1e-5)
        error.backward()
        with torch.no_grad():
            for p in network.parameters():
                p -= 0.1 * p.grad
    torch.testing.assert_close(numbers(critics), numbers(twin))


def test_every_pass_takes_every_minibatch() -> None:
    recorder = Recorder(fresh()[0])
    fit(recorder.critics, recorder, batch_of(50), passes=3, minibatch=20)
    assert len(recorder.norms) == 3 * 3


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("signal", ["target_reward", "target_cost"])
def test_a_target_that_is_not_finite_never_reaches_a_critic(signal: str, poison: float) -> None:
    """One bad target, in one minibatch of each pass: those are left out, the others are taken."""
    batch = batch_of()
    target = getattr(batch, signal).clone()
    target[7] = poison
    critics, optimiser = fresh()
    before = numbers(critics)
    report = fit(critics, optimiser, replace(batch, **{signal: target}), passes=3, minibatch=60)
    assert torch.equal(numbers(critics), before)
    assert report.nonfinite == 3
    assert math.isnan(report.loss_reward)
    assert not optimiser.state  # Adam's averages have not seen it either
    report = fit(critics, optimiser, replace(batch, **{signal: target}), passes=2, minibatch=20)
    assert report.nonfinite == 2
    assert math.isfinite(report.loss_reward + report.loss_cost)
    assert not torch.equal(numbers(critics), before)
    assert torch.isfinite(numbers(critics)).all()


def test_the_same_generator_gives_the_same_bits() -> None:
    one, same, other = fresh(), fresh(), fresh()
    fit(*one, batch_of(), seed=5)
    fit(*same, batch_of(), seed=5)
    fit(*other, batch_of(), seed=6)
    assert torch.equal(numbers(one[0]), numbers(same[0]))
    assert not torch.equal(numbers(one[0]), numbers(other[0]))
