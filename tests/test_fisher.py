"""The exact Fisher matrix against three other definitions of it, and its inverse; float64."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from kfcpo_lib.fisher import (
    ConjugateGradientFisher,
    conjugate_gradient,
    exact_fisher,
    fisher_operator,
)
from kfcpo_lib.gaussians import Gaussian, mean_kl
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.trust_region import flat_gradient, flatten, move


def small_policy(seed: int = 0) -> GaussianPolicy:
    """4 inputs, 3 tanh units, 2 actions: 25 parameters, with unequal standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianPolicy(4, 2, (3,), generator=generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    return policy


def states(count: int = 30, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator, dtype=torch.float64)


def size_of(policy: nn.Module) -> int:
    return sum(p.numel() for p in policy.parameters())


def random_vector(policy: nn.Module, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size_of(policy), generator=generator, dtype=torch.float64)


def kl_at(policy: GaussianPolicy, obs: Tensor, flat: Tensor) -> Tensor:
    """Mean KL from the policy to the one with the flat parameters, as a function of these."""
    named = dict(policy.named_parameters())
    parts = flat.split([p.numel() for p in named.values()])
    shaped = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
    return mean_kl(policy(obs).detach(), functional_call(policy, shaped, (obs,)))


def test_exact_fisher_is_the_hessian_of_the_mean_kl() -> None:
    policy, obs = small_policy(), states()
    here = flatten(p.detach() for p in policy.parameters())
    hessian = torch.autograd.functional.hessian(lambda flat: kl_at(policy, obs, flat), here)
    torch.testing.assert_close(exact_fisher(policy, obs), hessian, rtol=1e-10, atol=1e-10)


def test_exact_fisher_is_the_expected_outer_product_of_scores() -> None:
    """20,000 actions a state. Each entry's error, in its own standard errors, stays below 5."""
    policy, obs = small_policy(), states(3)
    parameters = list(policy.parameters())
    generator = torch.Generator().manual_seed(5)
    draws = 20_000
    mean_of_products = torch.zeros(25, 25, dtype=torch.float64)
    squared_errors = torch.zeros(25, 25, dtype=torch.float64)
    for state in obs:
        one = policy(state[None])
        jacobian = torch.stack([flat_gradient(mu, parameters) for mu in one.mean[0]])
        std, log_std_rows = one.std.detach(), torch.zeros(2, 25, dtype=torch.float64)
        log_std_rows[0, 0] = log_std_rows[1, 1] = 1.0
        z = torch.randn(draws, 2, generator=generator, dtype=torch.float64)
        # d log pi / d mu = z / sigma,  d log pi / d log sigma = z^2 - 1
        scores = (z / std) @ jacobian + (z**2 - 1) @ log_std_rows
        products = scores[:, :, None] * scores[:, None, :]
        mean_of_products += products.mean(0) / len(obs)
        squared_errors += products.var(0) / draws / len(obs) ** 2
    error = (mean_of_products - exact_fisher(policy, obs)).abs()
    assert (error <= 5 * squared_errors.sqrt() + 1e-12).all()


def test_the_analytic_scores_used_above_are_the_gradients_of_log_prob() -> None:
    policy, obs = small_policy(), states(1)
    distribution = policy(obs)
    action = distribution.sample(torch.Generator().manual_seed(0))
    score = flat_gradient(distribution.log_prob(action).sum(), list(policy.parameters()))
    z = ((action - distribution.mean) / distribution.std).detach()[0]
    torch.testing.assert_close(score[:2], z**2 - 1)


def test_the_log_standard_deviation_has_the_block_2i_and_no_other() -> None:
    fisher = exact_fisher(small_policy(), states())
    torch.testing.assert_close(fisher[:2, :2], 2 * torch.eye(2, dtype=torch.float64))
    assert (fisher[:2, 2:] == 0).all()


def test_kl_of_a_short_step_is_its_quadratic_model() -> None:
    """KL(theta + eps v) = eps^2 v'Fv / 2 + O(eps^3): a tenth of eps, a tenth of the error."""
    policy, obs = small_policy(), states()
    v = random_vector(policy)
    v /= v.norm()
    here = flatten(p.detach() for p in policy.parameters())
    model = 0.5 * float(v @ exact_fisher(policy, obs) @ v)
    errors = [
        float(kl_at(policy, obs, here + eps * v)) / eps**2 / model - 1 for eps in (1e-2, 1e-3)
    ]
    assert abs(errors[0]) < 0.05
    assert abs(errors[1]) < 0.2 * abs(errors[0])


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_fisher_vector_product_is_that_of_the_matrix(damping: float) -> None:
    policy, obs = small_policy(), states()
    v = random_vector(policy)
    dense = exact_fisher(policy, obs) + damping * torch.eye(25, dtype=torch.float64)
    operator = fisher_operator(policy, obs, damping)
    torch.testing.assert_close(operator(v), dense @ v, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(operator(v), operator(v), rtol=0, atol=0)  # may be asked again


class FixedStd(nn.Module):
    """A policy whose standard deviations are not learnt."""

    def __init__(self, policy: GaussianPolicy) -> None:
        super().__init__()
        self.mean_net = policy.mean_net
        self.register_buffer("fixed", policy.log_std.detach().clone())

    def forward(self, obs: Tensor) -> Gaussian:
        return Gaussian(self.mean_net(obs), self.get_buffer("fixed"))


def test_a_policy_without_log_std_has_only_the_networks_fisher() -> None:
    policy, obs = small_policy(), states()
    expected = exact_fisher(policy, obs)[2:, 2:]
    torch.testing.assert_close(exact_fisher(FixedStd(policy), obs), expected)
    product = fisher_operator(FixedStd(policy), obs)(expected[0])
    torch.testing.assert_close(product, expected @ expected[0])


def test_a_state_dependent_std_is_refused() -> None:
    class StateDependent(GaussianPolicy):
        def forward(self, obs: Tensor) -> Gaussian:
            mean = self.mean_net(obs)
            return Gaussian(mean, self.log_std + mean)

    with pytest.raises(ValueError, match="log std that does not depend on the state"):
        exact_fisher(StateDependent(4, 2, (3,)).double(), states())


# ------------------------------------------------------------------------- conjugate gradient


def spd(size: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def test_conjugate_gradient_solves_in_as_many_iterations_as_dimensions() -> None:
    matrix = spd()
    target = torch.linspace(-1, 2, 12, dtype=torch.float64)
    solution = conjugate_gradient(lambda v: matrix @ v, target, iterations=12)
    # In exact arithmetic it is there after 12; rounding leaves some 1e-9 at this condition.
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target), rtol=1e-6, atol=1e-7)


def test_conjugate_gradient_is_the_best_of_its_krylov_space_at_every_iteration() -> None:
    """After j iterations: the minimiser of x'Mx/2 - b'x over span(b, Mb, ..., M^(j-1) b)."""
    matrix, target = spd(), torch.linspace(-1, 2, 12, dtype=torch.float64)
    basis = target[:, None] / target.norm()
    for j in range(1, 6):
        best = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ target)
        solution = conjugate_gradient(lambda v: matrix @ v, target, iterations=j)
        torch.testing.assert_close(solution, best, rtol=1e-8, atol=1e-9)
        basis = torch.linalg.qr(torch.cat([basis, matrix @ basis[:, -1:]], dim=1)).Q


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_conjugate_gradient_does_not_depend_on_the_scale_of_its_target(scale: float) -> None:
    """No absolute epsilon anywhere: it would shorten the steps for small gradients."""
    matrix, target = spd(), torch.linspace(-1, 2, 12, dtype=torch.float64)
    once = conjugate_gradient(lambda v: matrix @ v, target, iterations=4)
    scaled = conjugate_gradient(lambda v: matrix @ v, scale * target, iterations=4)
    torch.testing.assert_close(scaled / scale, once, rtol=1e-10, atol=1e-12)


def test_conjugate_gradient_stops_when_it_is_there_and_leaves_zero_alone() -> None:
    products = 0

    def identity(v: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return v.clone()

    target = torch.linspace(-1, 2, 12, dtype=torch.float64)
    before = target.clone()
    assert torch.equal(conjugate_gradient(identity, target), target)
    assert products == 1
    assert torch.equal(target, before)
    zero = torch.zeros(12, dtype=torch.float64)
    assert torch.equal(conjugate_gradient(identity, zero), zero)
    assert products == 1


def test_conjugate_gradient_fisher_inverts_the_damped_matrix() -> None:
    policy, obs, damping = small_policy(), states(), 0.1
    dense = exact_fisher(policy, obs) + damping * torch.eye(25, dtype=torch.float64)
    fisher = ConjugateGradientFisher(policy, damping, iterations=60)
    fisher.update_factors(obs)
    u, v = random_vector(policy, 2), random_vector(policy, 3)
    torch.testing.assert_close(
        fisher.precondition(u), torch.linalg.solve(dense, u), rtol=1e-7, atol=1e-8
    )
    assert float(fisher.inner(u, v)) == pytest.approx(float(u @ dense @ v), rel=1e-10)
    assert fisher.state_dict() == {}
    fisher.load_state_dict({})


def test_conjugate_gradient_fisher_takes_the_last_batch_at_the_present_parameters() -> None:
    policy, damping = small_policy(), 0.1
    fisher = ConjugateGradientFisher(policy, damping)
    fisher.update_factors(states(seed=1))
    move(list(policy.parameters()), 0.1 * random_vector(policy))
    fisher.update_factors(states(seed=9))
    dense = exact_fisher(policy, states(seed=9)) + damping * torch.eye(25, dtype=torch.float64)
    v = random_vector(policy, 3)
    torch.testing.assert_close(fisher.multiply(v), dense @ v, rtol=1e-10, atol=1e-12)
    assert math.isfinite(float(fisher.inner(v, v)))
