"""Networks and the observation normaliser."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kfcpo_lib.policies import Critics, GaussianPolicy, ObservationNormaliser
from kfcpo_lib.streams import Streams


def policy_of(seed: int, **settings: object) -> GaussianPolicy:
    generator = torch.Generator().manual_seed(seed)
    return GaussianPolicy(4, 2, (16, 8), generator=generator, **settings)  # type: ignore[arg-type]


def test_weights_start_uniform_with_biases_zero_and_a_small_last_layer() -> None:
    policy = policy_of(0, log_std_start=-0.7)
    first, second, last = (m for m in policy.mean_net if isinstance(m, nn.Linear))
    for layer, scale in ((first, 1.0), (second, 1.0), (last, 0.01)):
        bound = scale * layer.in_features**-0.5
        assert (layer.weight.abs() <= bound * 1.0001).all()
        # A uniform variable in +-b has the deviation b / sqrt(3); 16 to 128 draws.
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.3)
        assert (layer.bias == 0).all()
    assert policy.log_std.tolist() == pytest.approx([-0.7, -0.7])


def test_first_actions_are_nearly_pure_noise() -> None:
    distribution = policy_of(0)(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)))
    assert distribution.mean.abs().max() < 0.02
    assert distribution.std.tolist() == pytest.approx([math.exp(-0.5)] * 2)


def test_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    one = policy_of(3).state_dict()
    torch.manual_seed(2)
    same, other = policy_of(3).state_dict(), policy_of(4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["mean_net.0.weight"], other["mean_net.0.weight"])


def test_parameters_are_log_std_then_the_layers() -> None:
    names = [name for name, _ in policy_of(0).named_parameters()]
    layers = [f"mean_net.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")]
    assert names == ["log_std", *layers]


def test_the_std_does_not_depend_on_the_state() -> None:
    policy = policy_of(0)
    distribution = policy(torch.randn(5, 4))
    assert distribution.log_std.shape == (2,)
    assert distribution.mean.shape == (5, 2)


def test_critics_share_nothing_and_keep_the_leading_shape() -> None:
    critics = Critics(4, (8,), Streams.of_seed(0).networks)
    obs = torch.randn(6, 3, 4)
    reward, cost = critics(obs)
    assert reward.shape == cost.shape == (6, 3)
    assert not {*map(id, critics.reward.parameters())} & {*map(id, critics.cost.parameters())}
    assert not torch.equal(critics.reward[0].weight, critics.cost[0].weight)
    torch.testing.assert_close(reward[2, 1], critics.reward(obs[2, 1])[0])
    torch.testing.assert_close(cost[2, 1], critics.cost(obs[2, 1])[0])


# --------------------------------------------------------------------------------- the normaliser


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(0, 1000),
    st.sampled_from([(0.0, 1.0), (1000.0, 1.0), (-3.0, 100.0)]),
)
def test_statistics_are_those_of_all_observations_so_far(
    sizes: list[int], seed: int, where: tuple[float, float]
) -> None:
    """Also where the mean is 1000 times the deviation: a naive sum of squares loses six digits."""
    random = np.random.default_rng(seed)
    batches = [random.normal(*where, (size, 2, 3)) for size in sizes]
    normaliser = ObservationNormaliser(3)
    for batch in batches:
        normaliser.update(batch)
    everything = np.concatenate(batches).reshape(-1, 3)
    assert normaliser.count == len(everything)
    np.testing.assert_allclose(normaliser.mean, everything.mean(0), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(normaliser.std, everything.std(0), rtol=1e-9)


def test_observations_are_scaled_and_clipped() -> None:
    normaliser = ObservationNormaliser(2)
    normaliser.update(np.array([[0.0, 10.0], [2.0, 30.0]]))  # means 1 and 20, deviations 1 and 10
    normalised = normaliser(np.array([[3.0, 10.0], [100.0, -100.0]]))
    assert normalised.tolist() == [[2.0, -1.0], [5.0, -5.0]]
    assert normalised.dtype == np.float32
    assert ObservationNormaliser(1, clip=2.0)(np.array([[9.0]])).tolist() == [[2.0]]


def test_a_component_that_never_changes_is_not_blown_up() -> None:
    normaliser = ObservationNormaliser(1)
    normaliser.update(np.full((100, 1), 7.0))
    assert normaliser.std.tolist() == [1e-2]
    assert normaliser(np.array([[7.0], [7.01]]))[:, 0].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_before_the_first_update_observations_pass_unscaled() -> None:
    obs = np.array([[0.5, -4.0]])
    assert ObservationNormaliser(2)(obs).tolist() == obs.tolist()


def test_normalising_changes_no_statistics_and_no_observations() -> None:
    normaliser = ObservationNormaliser(2)
    obs = np.array([[0.5, -4.0], [1.5, 2.0]])
    normaliser.update(obs)
    before, copy = normaliser.state_dict(), obs.copy()
    normaliser(obs)
    assert (obs == copy).all()
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(normaliser.state_dict()[k]))
               for k, v in before.items())  # fmt: skip


def test_normaliser_state_continues_to_the_same_bits() -> None:
    random = np.random.default_rng(0)
    normaliser = ObservationNormaliser(3, clip=4.0, std_floor=0.5)
    normaliser.update(random.normal(size=(10, 3)))
    saved = normaliser.state_dict()
    twin = ObservationNormaliser(3)
    twin.load_state_dict(saved)
    more, obs = random.normal(size=(10, 3)), random.normal(0, 9, size=(50, 3))
    for one in (normaliser, twin):
        one.update(more)
    assert (normaliser(obs) == twin(obs)).all()
    assert (normaliser.mean == twin.mean).all()
    fresh = ObservationNormaliser(3)
    fresh.load_state_dict(saved)  # what was saved did not move on
    assert fresh.count == 10
    assert not (fresh.mean == twin.mean).any()
