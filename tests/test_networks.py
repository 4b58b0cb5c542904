"""The networks behind policies: an MLP, a CNN on pictures, a GRU on windows."""

import math

import pytest
import torch
from torch import Tensor, nn

from kfcpo_lib.networks import GRU, make_network, plain_forward, tanh_network
from kfcpo_lib.policies import GaussianPolicy

PICTURE, WINDOW = (3, 12, 12), (8, 13)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(1))


def test_tanh_network_is_what_it_says() -> None:
    network = tanh_network([3, 5, 2], generator())
    first, _, last = network
    obs = random(7, 3)
    by_hand = torch.tanh(obs @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(network(obs), by_hand)


def test_gru_is_the_one_of_pytorch() -> None:
    """PyTorch's own, with the same weights: its gates come in the same order."""
    mine, stock = GRU(3, 5, generator()), nn.GRU(3, 5, batch_first=True)
    names = {
        "weight_ih_l0": mine.from_input.weight,
        "weight_hh_l0": mine.from_state.weight,
        "bias_ih_l0": mine.from_input.bias,
        "bias_hh_l0": mine.from_state.bias,
    }
    with torch.no_grad():
        for i, (name, parameter) in enumerate(names.items()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(i)))
            stock.get_parameter(name).copy_(parameter)
    window = random(7, 6, 3)
    torch.testing.assert_close(mine(window), stock(window)[1][0])


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (5,)), ("cnn", PICTURE), ("gru", WINDOW)])
def test_networks_take_flat_observations_and_start_alike(kind: str, shape: tuple[int, ...]) -> None:
    one, same, other = (make_network(kind, shape, [6, 2], generator(s)) for s in (0, 0, 1))
    obs = random(4, math.prod(shape))
    assert one(obs).shape == (4, 2)
    assert torch.equal(one(obs), same(obs))
    assert not torch.equal(one(obs), other(obs))
    for name, parameter in one.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            bound = parameter[0].numel() ** -0.5
            assert 0.7 * bound < float(parameter.detach().abs().max()) <= bound


def test_cnn_does_not_care_where_a_small_thing_is_until_its_linear_layers_do() -> None:
    """Shifting a picture by two strides shifts the second convolution's output by one place."""
    network = make_network("cnn", (1, 16, 16), [4], generator())
    convolutions = network[:5]
    picture = torch.zeros(1, 1, 16, 16)
    picture[:, :, 6:8, 6:8] = 1.0
    shifted = torch.roll(picture, 4, dims=3)
    here, there = (convolutions(p.flatten(1)) for p in (picture, shifted))
    torch.testing.assert_close(there[..., 1:], here[..., :-1])


def test_gru_remembers_what_an_mlp_on_the_last_moment_cannot_see() -> None:
    network = make_network("gru", WINDOW, [6, 2], generator())
    window = random(1, *WINDOW)
    other_past = window.clone()
    other_past[:, 0] += 1.0
    assert not torch.allclose(network(window.flatten(1)), network(other_past.flatten(1)))


@pytest.mark.parametrize(
    ("kind", "shape", "sizes", "named"),
    [
        ("cnn", (14,), [8, 2], r"pictures .*, got observations of shape \(14,\)"),
        ("gru", PICTURE, [8, 2], r"windows .*, got observations of shape \(3, 12, 12\)"),
        ("gru", WINDOW, [2], r"hidden sizes \(\)"),
        ("transformer", (14,), [2], "one of mlp, cnn, gru, got 'transformer'"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: str, shape: tuple[int, ...], sizes: list[int], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make_network(kind, shape, sizes)


@pytest.mark.parametrize(("kind", "shape"), [("cnn", PICTURE), ("gru", WINDOW)])
def test_first_actions_are_nearly_pure_noise_with_each_network(
    kind: str, shape: tuple[int, ...]
) -> None:
    policy = GaussianPolicy(shape, 2, (6, 5), generator=generator(), network=kind)
    assert policy(random(4, math.prod(shape))).mean.abs().max() < 0.02  # the last layer is small


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (5,)), ("cnn", PICTURE), ("gru", WINDOW)])
def test_without_modules_the_numbers_are_the_same(kind: str, shape: tuple[int, ...]) -> None:
    network = make_network(kind, shape, [6, 6, 2], generator())
    obs = random(20, math.prod(shape))
    with torch.no_grad():
        assert torch.equal(plain_forward(network)(obs), network(obs))
