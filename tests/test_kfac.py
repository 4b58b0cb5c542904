"""K-FAC against the dense matrix it stands for, and against the exact Fisher matrix; float64.

Where K-FAC is exact:
- a linear policy (one layer): the scores at its output do not depend on the state, so
  E[g g' kron a a'] = E[g g'] kron E[a a'];
- for the same reason the last layer of every policy;
- every layer's own block of a deep linear network, but not the blocks between two layers, which
  K-FAC leaves out;
- every layer's own block if there is only one state.
It is not exact for a layer below a tanh, where scores and inputs depend on the state together.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kfcpo_lib import KFAC
from kfcpo_lib.fisher import exact_fisher
from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.trust_region import flat_gradient, flatten, move


def small_policy(hidden: tuple[int, ...] = (3, 5), seed: int = 0) -> GaussianPolicy:
    """4 inputs, 2 actions, biases that are not zero, unequal standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianPolicy(4, 2, hidden, generator=generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    return policy


def deep_linear(hidden: tuple[int, ...] = (3, 5)) -> GaussianPolicy:
    """The same without its tanh."""
    policy = small_policy(hidden)
    policy.mean_net = nn.Sequential(*(m for m in policy.mean_net if isinstance(m, nn.Linear)))
    return policy


def states(count: int = 40, seed: int = 1, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) + 0.3


def size_of(policy: nn.Module) -> int:
    return sum(p.numel() for p in policy.parameters())


def random_vector(policy: nn.Module, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size_of(policy), generator=generator, dtype=torch.float64)


def kfac_on(policy: nn.Module, obs: Tensor, damping: float = 0.0, **settings: object) -> KFAC:
    kfac = KFAC(policy, damping, **settings)  # type: ignore[arg-type]
    kfac.update_factors(obs)
    return kfac


def blocks_of(policy: nn.Module) -> list[slice]:
    """Each layer's places in a flat vector: log_std, then weight and bias of each layer."""
    ends = list(itertools.accumulate(p.numel() for p in policy.parameters()))
    return [slice(a, b) for a, b in itertools.pairwise([0, *ends[::2]])]


# --------------------------------------------------------------- the operator and its dense twin


@pytest.mark.parametrize("damping", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("hidden", [(), (3,), (3, 5), (4, 4, 4)])
def test_preconditioner_is_the_dense_inverse(hidden: tuple[int, ...], damping: float) -> None:
    policy = small_policy(hidden)
    kfac = kfac_on(policy, states(), damping)
    eye = torch.eye(size_of(policy), dtype=torch.float64)
    inverse = torch.linalg.inv(kfac.dense() + damping * eye)
    applied = torch.stack([kfac.precondition(e) for e in eye], dim=1)
    torch.testing.assert_close(applied, inverse, rtol=1e-9, atol=1e-9)


def test_multiply_inner_and_norm_are_those_of_the_damped_dense_matrix() -> None:
    policy, damping = small_policy(), 0.1
    kfac = kfac_on(policy, states(), damping)
    u, v = random_vector(policy, 2), random_vector(policy, 3)
    damped = kfac.dense() + damping * torch.eye(size_of(policy), dtype=torch.float64)
    torch.testing.assert_close(kfac.multiply(u), damped @ u, rtol=1e-10, atol=1e-10)
    assert float(kfac.inner(u, v)) == pytest.approx(float(u @ damped @ v), rel=1e-10)
    assert float(kfac.inner(u, u)) == pytest.approx(float(u @ damped @ u), rel=1e-10)
    torch.testing.assert_close(kfac.precondition(kfac.multiply(u)), u, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([1e-4, 1e-2, 1.0]))
def test_fisher_metric_is_symmetric_and_positive(seed: int, damping: float) -> None:
    policy = small_policy((3,))
    kfac = kfac_on(policy, states(2), damping)  # two states: singular factors
    u, v = random_vector(policy, seed), random_vector(policy, seed + 1)
    assert float(kfac.inner(u, v)) == pytest.approx(float(kfac.inner(v, u)), rel=1e-9, abs=1e-9)
    assert float(kfac.inner(u, u)) >= damping * float(u @ u) * (1 - 1e-12)


def test_dense_is_kron_of_independently_computed_factors_in_the_order_of_the_parameters() -> None:
    """Scores at each layer by one gradient per state and action dimension, no batch tricks."""
    policy, obs = small_policy((3,)), states(11)
    first, last = (m for m in policy.mean_net if isinstance(m, nn.Linear))
    std = policy.log_std.detach().exp()
    expected = torch.zeros(25, 25, dtype=torch.float64)
    expected[0, 0] = expected[1, 1] = 2.0
    a_first = torch.zeros(5, 5, dtype=torch.float64)
    a_last = torch.zeros(4, 4, dtype=torch.float64)
    g_first = torch.zeros(3, 3, dtype=torch.float64)
    g_last = torch.zeros(2, 2, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    for state in obs:
        hidden = torch.tanh(first(state)).detach()
        a_first += torch.outer(torch.cat([state, one]), torch.cat([state, one])) / 11
        a_last += torch.outer(torch.cat([hidden, one]), torch.cat([hidden, one])) / 11
        for k in range(2):
            g = last.weight[k].detach() * (1 - hidden**2) / std[k]
            g_first += torch.outer(g, g) / 11
            g_last[k, k] += 1 / std[k] ** 2 / 11
    # Flat order: log_std 0-1, first weight 2-13 (3 rows of 4), first bias 14-16, last weight
    # 17-22 (2 rows of 3), last bias 23-24.
    for i, j in itertools.product(range(3), range(3)):
        rows = [2 + 4 * i, 3 + 4 * i, 4 + 4 * i, 5 + 4 * i, 14 + i]
        columns = [2 + 4 * j, 3 + 4 * j, 4 + 4 * j, 5 + 4 * j, 14 + j]
        expected[torch.tensor(rows)[:, None], torch.tensor(columns)] = g_first[i, j] * a_first
    for i, j in itertools.product(range(2), range(2)):
        rows = [17 + 3 * i, 18 + 3 * i, 19 + 3 * i, 23 + i]
        columns = [17 + 3 * j, 18 + 3 * j, 19 + 3 * j, 23 + j]
        expected[torch.tensor(rows)[:, None], torch.tensor(columns)] = g_last[i, j] * a_last
    torch.testing.assert_close(kfac_on(policy, obs).dense(), expected, rtol=1e-10, atol=1e-12)


def test_log_standard_deviation_has_the_block_2i() -> None:
    policy = small_policy()
    for sampled in (False, True):
        kfac = kfac_on(policy, states(), damping=0.5, sampled=sampled)
        dense = kfac.dense()
        assert torch.equal(dense[:2, :2], 2 * torch.eye(2, dtype=torch.float64))
        assert (dense[:2, 2:] == 0).all()
        gradient = torch.zeros(size_of(policy), dtype=torch.float64)
        gradient[:2] = torch.tensor([5.0, -10.0])
        natural = kfac.precondition(gradient)
        torch.testing.assert_close(natural[:2], torch.tensor([2.0, -4.0]).double())
        assert (natural[2:] == 0).all()


# --------------------------------------------------------------------- where it is exact, or not


def test_kfac_is_exact_for_linear_policies() -> None:
    policy, obs = small_policy(()), states()
    fisher = exact_fisher(policy, obs)
    kfac = kfac_on(policy, obs, damping=0.0)
    torch.testing.assert_close(kfac.dense(), fisher, rtol=1e-10, atol=1e-12)
    gradient = random_vector(policy)
    natural = torch.linalg.solve(fisher, gradient)
    torch.testing.assert_close(kfac.precondition(gradient), natural, rtol=1e-9, atol=1e-9)


def test_kfac_is_exact_for_each_layer_of_a_deep_linear_policy_but_not_between_layers() -> None:
    policy, obs = deep_linear(), states()
    fisher, dense = exact_fisher(policy, obs), kfac_on(policy, obs).dense()
    blocks = blocks_of(policy)
    for block in blocks:
        torch.testing.assert_close(dense[block, block], fisher[block, block])
    first, second = blocks[1], blocks[2]
    assert (dense[first, second] == 0).all()
    assert fisher[first, second].abs().max() > 0.1


def test_kfac_is_exact_for_the_last_layer_but_not_below_a_tanh() -> None:
    policy, obs = small_policy(), states()
    fisher, dense = exact_fisher(policy, obs), kfac_on(policy, obs).dense()
    *_, first, second, last = blocks_of(policy)
    torch.testing.assert_close(dense[last, last], fisher[last, last])
    for block in (first, second):
        distance = (dense[block, block] - fisher[block, block]).norm() / fisher[block, block].norm()
        assert 0.01 < distance < 1.0


def test_kfac_is_exact_for_each_layer_if_there_is_one_state() -> None:
    policy, obs = small_policy(), states(1)
    fisher, dense = exact_fisher(policy, obs), kfac_on(policy, obs).dense()
    for block in blocks_of(policy):
        torch.testing.assert_close(dense[block, block], fisher[block, block])


class Reparametrised(GaussianPolicy):
    """Each layer sees an affine map of what it saw before; the same functions can be reached."""

    def __init__(self, policy: GaussianPolicy, maps: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(policy.mean_net[0].in_features, 2, policy.hidden_sizes)
        self.double().load_state_dict(policy.state_dict())
        self.maps = maps
        with torch.no_grad():
            for layer, (stretch, shift) in zip(self.layers, maps, strict=True):
                layer.weight.copy_(layer.weight @ torch.linalg.inv(stretch))
                layer.bias.sub_(layer.weight @ shift)

    @property
    def layers(self) -> list[nn.Linear]:
        return [m for m in self.mean_net if isinstance(m, nn.Linear)]

    def forward(self, obs: Tensor) -> Gaussian:
        signal = obs
        for i, (layer, (stretch, shift)) in enumerate(zip(self.layers, self.maps, strict=True)):
            signal = layer((torch.tanh(signal) if i else signal) @ stretch.T + shift)
        return Gaussian(signal, self.log_std)


def test_natural_gradient_does_not_see_an_affine_map_of_the_layers_inputs() -> None:
    """With damping 0: a natural step gives the same policy in both parametrisations.

    The plain gradient's step does not; neither does the natural one with damping.
    """
    policy, obs, elsewhere = small_policy((3,)), states(), states(seed=8)
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    maps = [(random(4, 4), random(4)), (random(3, 3), random(3))]
    twin = Reparametrised(policy, maps)
    torch.testing.assert_close(twin(elsewhere).mean, policy(elsewhere).mean)
    weights = random(40, 2)

    def stepped(one: GaussianPolicy, damping: float | None) -> Tensor:
        start = flatten(p.detach().clone() for p in one.parameters())
        gradient = flat_gradient((weights * one(obs).mean).mean(), list(one.parameters()))
        step = gradient if damping is None else kfac_on(one, obs, damping).precondition(gradient)
        move(list(one.parameters()), step)
        mean = one(elsewhere).mean.detach()
        for p, value in zip(
            one.parameters(), start.split([p.numel() for p in one.parameters()]), strict=True
        ):
            p.data = value.view_as(p).clone()
        return mean

    torch.testing.assert_close(stepped(twin, 0.0), stepped(policy, 0.0), rtol=1e-7, atol=1e-7)
    for damping in (None, 0.1):
        assert (stepped(twin, damping) - stepped(policy, damping)).abs().max() > 1e-2


# ------------------------------------------------------------------------------ sampled factors


def test_sampled_factors_converge_to_the_exact_ones_at_the_monte_carlo_rate() -> None:
    """Given the state, g is Gaussian, so Var(g_i g_j) = G_ii G_jj + G_ij^2 (Isserlis), G the
    covariance in that state. Errors in units of the standard error that follows are about 1."""
    policy, few = small_policy((3,)), states(20)
    exact = kfac_on(policy, few)
    one_by_one = [kfac_on(policy, state[None]) for state in few]
    for copies in (100, 10_000):
        sampled = kfac_on(
            policy,
            few.repeat(copies, 1),
            sampled=True,
            generator=torch.Generator().manual_seed(copies),
        )
        for layer in range(2):
            inside = [kfac.blocks[layer].output_factor for kfac in one_by_one]
            variance = sum(torch.outer(g.diag(), g.diag()) + g**2 for g in inside) / len(inside)
            standard_error = (variance / (20 * copies)).sqrt()
            error = sampled.blocks[layer].output_factor - exact.blocks[layer].output_factor
            z = error / standard_error
            assert z.abs().max() < 4.5
            assert z.abs().max() > 0.05  # it is noise, not the exact sum in disguise
            torch.testing.assert_close(
                sampled.blocks[layer].input_factor, exact.blocks[layer].input_factor
            )


def test_sampled_factors_come_from_the_generator() -> None:
    policy, obs = small_policy((3,)), states()

    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return kfac_on(policy, obs, sampled=True, generator=generator).dense()

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


# ------------------------------------------------------------- averages, periods, saving, refusal


def factors(kfac: KFAC, layer: int = 0) -> tuple[Tensor, Tensor]:
    return kfac.blocks[layer].input_factor, kfac.blocks[layer].output_factor


def test_moving_averages_by_hand() -> None:
    """A policy with one input: A = [[E x^2, E x], [E x, 1]]; batches {1, 3}, {2}, {0}."""
    policy = GaussianPolicy(1, 1, (), log_std_start=math.log(0.5)).double()
    kfac = KFAC(policy, decay=0.75)
    expected = torch.tensor([[5.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    batches = [[[1.0], [3.0]], [[2.0]], [[0.0]]]
    means = [expected, torch.tensor([[4.0, 2.0], [2.0, 1.0]]), torch.tensor([[0.0, 0], [0, 1]])]
    for i, (batch, mean) in enumerate(zip(batches, means, strict=True)):
        kfac.update_factors(torch.tensor(batch, dtype=torch.float64))
        expected = 0.75 * expected + 0.25 * mean if i else expected
        a, g = factors(kfac)
        torch.testing.assert_close(a, expected)
        # 1 / sigma^2; log 0.5 and the standard deviation pass single precision once.
        torch.testing.assert_close(g, torch.tensor([[4.0]]).double(), rtol=1e-6, atol=0)
        # (A kron G + damping I) by hand, on the weight alone.
        damped = expected * float(g) + 0.01 * torch.eye(2)
        natural = kfac.precondition(torch.tensor([0.0, 1.0, 0.0]).double())
        by_hand = torch.linalg.solve(damped, torch.tensor([1.0, 0.0]).double())
        torch.testing.assert_close(natural[1:], by_hand)


def test_decay_zero_remembers_nothing() -> None:
    policy = small_policy()
    kfac = KFAC(policy, decay=0.0)
    kfac.update_factors(states(seed=1))
    kfac.update_factors(states(seed=2))
    torch.testing.assert_close(kfac.dense(), kfac_on(policy, states(seed=2)).dense())


def test_factors_are_refreshed_at_every_t_s_th_call_only() -> None:
    policy = small_policy()
    kfac = KFAC(policy, decay=0.5, factor_period=3)
    batches = [states(seed=s) for s in range(5)]
    seen = []
    for batch in batches:
        kfac.update_factors(batch)
        seen.append(kfac.dense())
    alone = [kfac_on(policy, batch) for batch in batches]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[3], seen[4])
    torch.testing.assert_close(seen[0], alone[0].dense())
    for mine, old, new in zip(factors(kfac), factors(alone[0]), factors(alone[3]), strict=True):
        torch.testing.assert_close(mine, 0.5 * old + 0.5 * new)


def test_eigendecompositions_are_refreshed_at_every_t_f_th_call_only() -> None:
    """Between two of them the operator is the old one, though the factors move on."""
    policy, v = small_policy(), random_vector(small_policy())
    kfac, prompt = KFAC(policy, decay=0.5, inverse_period=3), KFAC(policy, decay=0.5)
    natural = []
    for s in range(5):
        kfac.update_factors(states(seed=s))
        prompt.update_factors(states(seed=s))
        torch.testing.assert_close(factors(kfac), factors(prompt))
        natural.append(kfac.precondition(v))
        if s in (0, 3):
            torch.testing.assert_close(natural[s], prompt.precondition(v))
    assert torch.equal(natural[0], natural[1])
    assert torch.equal(natural[0], natural[2])
    assert torch.equal(natural[3], natural[4])
    assert not torch.allclose(natural[2], natural[3])


def test_state_dict_continues_to_the_same_bits() -> None:
    policy = small_policy()
    settings = {"decay": 0.9, "factor_period": 2, "inverse_period": 3}
    kfac, twin = KFAC(policy, **settings), KFAC(policy, **settings)
    for s in range(4):
        kfac.update_factors(states(seed=s))
    saved = kfac.state_dict()
    frozen = [block["input_factor"].clone() for block in saved["blocks"]]
    twin.load_state_dict(saved)
    v = random_vector(policy)
    assert torch.equal(kfac.precondition(v), twin.precondition(v))
    for s in range(4, 9):
        kfac.update_factors(states(seed=s))
        twin.update_factors(states(seed=s))
        assert torch.equal(kfac.precondition(v), twin.precondition(v))
        assert torch.equal(kfac.dense(), twin.dense())
    for block, before in zip(saved["blocks"], frozen, strict=True):
        assert torch.equal(block["input_factor"], before)  # what was saved does not move on


def test_looking_at_a_batch_changes_neither_parameters_nor_hooks_nor_gradients() -> None:
    policy = small_policy()
    before = [p.detach().clone() for p in policy.parameters()]
    kfac_on(policy, states())
    for p, value in zip(policy.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
    assert not any(m._forward_hooks for m in policy.modules())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("damping", -1e-9),
        ("damping", math.nan),
        ("damping", math.inf),
        ("decay", -0.1),
        ("decay", 1.0),
        ("decay", math.nan),
        ("factor_period", 0),
        ("factor_period", 1.5),
        ("inverse_period", 0),
        ("inverse_period", -2),
    ],
)
def test_bad_settings_are_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name) as refusal:
        KFAC(small_policy(), **{name: value})  # type: ignore[arg-type]
    assert repr(value) in str(refusal.value)


def test_modules_with_other_parameters_are_refused() -> None:
    class Scaled(GaussianPolicy):
        def __init__(self) -> None:
            super().__init__(4, 2, (3,))
            self.scale = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"not scale$"):
        KFAC(Scaled())
    without_bias = GaussianPolicy(4, 2, (3,))
    without_bias.mean_net[0] = nn.Linear(4, 3, bias=False)
    with pytest.raises(ValueError, match="with bias"):
        KFAC(without_bias)


class HeadFirst(nn.Module):
    """Registers its layers in another order than it uses them in; both are 3 x 3."""

    def __init__(self, body: nn.Linear, head: nn.Linear) -> None:
        super().__init__()
        self.head, self.body = head, body

    def forward(self, obs: Tensor) -> Gaussian:
        mean = self.head(torch.tanh(self.body(obs)))
        return Gaussian(mean, torch.zeros(3, dtype=obs.dtype))


def test_layers_keep_their_own_statistics_in_whatever_order_they_are_registered() -> None:
    body, head = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
    policy, obs = HeadFirst(body, head), states(size=3)
    kfac = kfac_on(policy, obs)
    torch.testing.assert_close(kfac.dense()[:12, :12], exact_fisher(policy, obs)[:12, :12])
    with_one = torch.cat([obs, torch.ones(len(obs), 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(kfac.blocks[1].input_factor, with_one.T @ with_one / len(obs))


def test_layers_that_are_never_used_are_refused() -> None:
    class Never(HeadFirst):
        def forward(self, obs: Tensor) -> Gaussian:
            return Gaussian(self.body(obs), torch.zeros(3, dtype=obs.dtype))

    policy = Never(nn.Linear(3, 3).double(), nn.Linear(3, 3).double())
    with pytest.raises(ValueError, match="to be used in a forward pass"):
        KFAC(policy).update_factors(states(size=3))
    assert not any(m._forward_hooks for m in policy.modules())
