"""The diagonal Gaussian against closed forms, torch.distributions and Monte Carlo; float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from kfcpo_lib.gaussians import Gaussian, mean_kl

LOG_STD_SHAPES = {"shared by the states": (3,), "one a state": (7, 3)}


def random_gaussian(seed: int, log_std_shape: tuple[int, ...] = (3,)) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    log_std = 0.5 * torch.randn(log_std_shape, generator=generator, dtype=torch.float64)
    return Gaussian(mean, log_std)


def in_torch(gaussian: Gaussian) -> Independent:
    return Independent(Normal(gaussian.mean, gaussian.log_std.exp().expand_as(gaussian.mean)), 1)


@pytest.mark.parametrize("shape", LOG_STD_SHAPES.values(), ids=LOG_STD_SHAPES)
def test_kl_and_log_prob_are_those_of_torch_distributions(shape: tuple[int, ...]) -> None:
    old, new = random_gaussian(0, shape), random_gaussian(1, shape)
    actions = random_gaussian(2).mean
    torch.testing.assert_close(old.kl(new), kl_divergence(in_torch(old), in_torch(new)))
    torch.testing.assert_close(old.log_prob(actions), in_torch(old).log_prob(actions))
    assert old.kl(new).shape == old.log_prob(actions).shape == (7,)


def test_kl_by_hand_and_not_symmetric() -> None:
    narrow = Gaussian(torch.zeros(1, 1), torch.zeros(1))
    wide = Gaussian(torch.ones(1, 1), torch.full((1,), math.log(2.0)))
    assert float(narrow.kl(wide)) == pytest.approx(math.log(2) + (1 + 1) / 8 - 0.5, abs=1e-6)
    assert float(wide.kl(narrow)) == pytest.approx(-math.log(2) + (4 + 1) / 2 - 0.5, abs=1e-6)


def test_kl_is_the_mean_log_ratio_under_its_first_argument() -> None:
    """400,000 draws; five standard errors, of the draws themselves, are hit once in 10^6."""
    old = Gaussian(torch.tensor([0.3, -0.2]).double(), torch.tensor([-0.4, 0.1]).double())
    new = Gaussian(torch.tensor([0.1, 0.2]).double(), torch.tensor([-0.2, -0.1]).double())
    many = Gaussian(old.mean.expand(400_000, 2), old.log_std)
    actions = many.sample(torch.Generator().manual_seed(0))
    log_ratio = old.log_prob(actions) - new.log_prob(actions)
    error = float(log_ratio.mean() - old.kl(new))
    assert abs(error) < 5 * float(log_ratio.std()) / math.sqrt(len(log_ratio))
    assert float(log_ratio.std()) / math.sqrt(len(log_ratio)) < 0.01 * float(old.kl(new))


def test_kl_sums_over_action_dimensions_and_mean_kl_averages_over_states() -> None:
    old, new = random_gaussian(0), random_gaussian(1)

    def doubled(gaussian: Gaussian) -> Gaussian:
        return Gaussian(gaussian.mean.repeat(1, 2), gaussian.log_std.repeat(2))

    def repeated(gaussian: Gaussian) -> Gaussian:
        return Gaussian(gaussian.mean.repeat(2, 1), gaussian.log_std)

    torch.testing.assert_close(doubled(old).kl(doubled(new)), 2 * old.kl(new))
    torch.testing.assert_close(mean_kl(repeated(old), repeated(new)), mean_kl(old, new))
    torch.testing.assert_close(mean_kl(old, new), old.kl(new).sum() / 7)


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_kl_is_never_negative_and_zero_from_itself(numbers: list[float]) -> None:
    a, b, c, d = torch.tensor(numbers, dtype=torch.float64).view(4, 1, 2)
    old, new = Gaussian(a, b[0]), Gaussian(c, d[0])
    assert float(old.kl(new)) >= -1e-15 * float(old.kl(new).abs().clamp(min=1.0))
    assert float(old.kl(old)) == 0.0


@pytest.mark.parametrize("shape", LOG_STD_SHAPES.values(), ids=LOG_STD_SHAPES)
def test_samples_have_the_mean_and_the_standard_deviation(shape: tuple[int, ...]) -> None:
    gaussian = random_gaussian(0, shape)
    gaussian.mean.requires_grad_()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([gaussian.sample(generator) for _ in range(10_000)])
    assert not draws.requires_grad
    assert draws.dtype == torch.float64
    std = gaussian.std.expand(7, 3)
    # The mean of 10,000 draws has a standard error of std / 100, their deviation std / 141.
    assert ((draws.mean(0) - gaussian.mean).abs() < 5 * std / 100).all()
    assert ((draws.std(0) - std).abs() < 5 * std / 141).all()


def test_samples_come_from_the_generator_alone() -> None:
    gaussian = random_gaussian(0)

    def draw(seed: int) -> Tensor:
        return gaussian.sample(torch.Generator().manual_seed(seed))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


@pytest.mark.parametrize("shape", LOG_STD_SHAPES.values(), ids=LOG_STD_SHAPES)
def test_rows_are_the_distributions_of_those_states(shape: tuple[int, ...]) -> None:
    gaussian, index = random_gaussian(0, shape), torch.tensor([5, 0, 5])
    actions = random_gaussian(2).mean
    expected = gaussian.log_prob(actions)[index]
    assert torch.equal(gaussian.rows(index).log_prob(actions[index]), expected)


def test_a_detached_policy_does_not_follow_its_parameters() -> None:
    log_std = torch.zeros(2, requires_grad=True)
    frozen = Gaussian(torch.zeros(1, 2, requires_grad=True), log_std).detach()
    with torch.no_grad():
        log_std += 1.0
    assert not frozen.log_std.requires_grad
    assert not frozen.mean.requires_grad
    assert torch.equal(frozen.log_std, torch.zeros(2))
