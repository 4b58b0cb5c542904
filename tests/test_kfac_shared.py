"""K-FAC of shared weights against brute force and against the exact Fisher matrix; float64.

Where the block of a shared layer is exact:
- it is used at one place only: then it is a linear layer's;
- a linear network in which every place has actions of its own: the scores do not depend on the
  state, those of two places belong to different actions, and they are the same everywhere.
It is not exact once an action looks at several places, or below a tanh.
"""

import itertools

import pytest
import torch
from torch import Tensor, nn

from kfcpo_lib import KFAC
from kfcpo_lib.fisher import exact_fisher
from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac_shared import inputs_by_place, scores_by_place
from kfcpo_lib.networks import GRU

CHANNELS, SIZE = 2, 5


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class Policy(nn.Module):
    """Any network as the mean, with a fixed log std; weights that are not small."""

    def __init__(self, *layers: nn.Module, log_std: Tensor | float = -0.5, seed: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers).double()
        self.std = torch.as_tensor(log_std, dtype=torch.float64)
        with torch.no_grad():
            for i, parameter in enumerate(self.net.parameters()):
                parameter.copy_(0.5 * noise(*parameter.shape, seed=seed + i))

    def forward(self, obs: Tensor) -> Gaussian:
        mean = self.net(obs).flatten(1)
        return Gaussian(mean, self.std.expand(mean.shape[1]))


def pictures(count: int = 30) -> Tensor:
    return noise(count, CHANNELS * SIZE * SIZE, seed=7) + 0.3


def as_picture() -> nn.Unflatten:
    return nn.Unflatten(1, (CHANNELS, SIZE, SIZE))


def windows(count: int = 30, times: int = 4) -> Tensor:
    return noise(count, times, 3, seed=8) + 0.3


def kfac_on(policy: nn.Module, obs: Tensor, damping: float = 0.0) -> KFAC:
    kfac = KFAC(policy, damping)
    kfac.update_factors(obs)
    return kfac


def layer_blocks(policy: nn.Module) -> list[slice]:
    """Weight and bias of each layer together, in a flat vector."""
    ends = list(itertools.accumulate(p.numel() for p in policy.parameters()))
    return [slice(a, b) for a, b in itertools.pairwise([0, *ends[1::2]])]


def errors(policy: nn.Module, obs: Tensor) -> list[float]:
    """Relative error of each layer's block."""
    fisher, dense = exact_fisher(policy, obs), kfac_on(policy, obs).dense()
    return [
        float((dense[b, b] - fisher[b, b]).norm() / fisher[b, b].norm())
        for b in layer_blocks(policy)
    ]


# --------------------------------------------------------------------------------- what is seen


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"stride": 2, "padding": 1}]
)
def test_a_convolution_is_one_linear_map_of_each_of_its_patches(options: dict[str, int]) -> None:
    layer = nn.Conv2d(CHANNELS, 3, 3, **options).double()  # type: ignore[call-overload]
    x = pictures(4).view(4, CHANNELS, SIZE, SIZE)
    patches = inputs_by_place(layer, [x])
    by_hand = patches @ layer.weight.flatten(1).T + layer.bias
    torch.testing.assert_close(by_hand, layer(x).flatten(2).transpose(1, 2))
    scores = scores_by_place(layer, [torch.stack([layer(x)] * 2)])
    torch.testing.assert_close(scores[1], by_hand)


def test_factors_of_a_convolution_by_brute_force() -> None:
    """One gradient per state, action and place; no unfolding, no batch tricks."""
    log_std = torch.tensor([-0.5, 0.2])
    policy = Policy(
        as_picture(),
        nn.Conv2d(CHANNELS, 3, 2, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(27, 2),
        log_std=log_std,
    )
    conv, obs = policy.net[1], pictures(6)
    a = torch.zeros(CHANNELS * 4 + 1, CHANNELS * 4 + 1, dtype=torch.float64)
    g = torch.zeros(3, 3, dtype=torch.float64)
    for state in obs:
        picture = nn.functional.pad(state.view(CHANNELS, SIZE, SIZE), (1, 1, 1, 1))
        output = conv(state.view(1, CHANNELS, SIZE, SIZE))
        mean = policy.net[4](torch.tanh(output).flatten(1))[0]
        rows = [torch.autograd.grad(m, output, retain_graph=True)[0][0] for m in mean]
        for i, j in itertools.product(range(3), range(3)):
            patch = picture[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1)
            with_one = torch.cat([patch, torch.ones(1, dtype=torch.float64)])
            a += torch.outer(with_one, with_one) / 6
            for row, log in zip(rows, log_std, strict=True):
                score = row[:, i, j] / log.exp()
                g += torch.outer(score, score) / (6 * 9)
    block = kfac_on(policy, obs).blocks[0]
    torch.testing.assert_close(block.input_factor, a, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(block.output_factor, g, rtol=1e-6, atol=1e-8)


def test_a_layer_used_at_many_places_in_one_call_or_in_many_has_the_same_block() -> None:
    class OneCall(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, window: Tensor) -> Tensor:
            return torch.tanh(self.layer(window)).sum(1)

    class ManyCalls(OneCall):
        def forward(self, window: Tensor) -> Tensor:
            total: Tensor = sum(torch.tanh(self.layer(x)) for x in window.unbind(1))  # type: ignore[assignment]
            return total

    one, many = (kfac_on(Policy(kind()), windows()).dense() for kind in (OneCall, ManyCalls))
    torch.testing.assert_close(one, many)


# -------------------------------------------------------------------------- where it is exact


def test_kfc_is_exact_where_a_convolution_is_used_at_one_place() -> None:
    """A kernel as large as the picture is a linear layer; so is its block, next to the last."""
    conv = nn.Conv2d(CHANNELS, 3, SIZE)
    policy = Policy(as_picture(), conv, nn.Flatten(), nn.Linear(3, 2))
    assert max(errors(policy, pictures())) < 1e-12
    linear = Policy(nn.Linear(CHANNELS * SIZE * SIZE, 3), nn.Linear(3, 2))
    torch.testing.assert_close(
        kfac_on(policy, pictures()).dense(), kfac_on(linear, pictures()).dense()
    )


def test_kfc_is_exact_where_every_place_has_an_action_of_its_own() -> None:
    """A linear network of convolutions; the last is 1 x 1, and each of its outputs an action."""
    policy = Policy(
        as_picture(), nn.Conv2d(CHANNELS, 3, 3, stride=2, padding=1), nn.Conv2d(3, 1, 1)
    )
    obs = pictures()
    assert policy(obs).mean.shape == (30, 9)
    assert max(errors(policy, obs)) < 1e-12


def test_kfc_is_not_exact_where_actions_look_at_several_places_or_below_a_tanh() -> None:
    conv = [as_picture(), nn.Conv2d(CHANNELS, 3, 3)]
    pooled = errors(Policy(*conv, nn.Flatten(), nn.Linear(27, 2)), pictures())
    bent = errors(Policy(*conv, nn.Tanh(), nn.Conv2d(3, 1, 1)), pictures())
    for first, last in (pooled, bent):
        assert 0.05 < first < 2
        assert last < 1e-12


def test_time_is_shared_exactly_where_every_moment_has_an_action_of_its_own() -> None:
    class EachMoment(nn.Module):
        def __init__(self, bend: nn.Module) -> None:
            super().__init__()
            self.layer, self.head, self.bend = nn.Linear(3, 4), nn.Linear(4, 1), bend

        def forward(self, window: Tensor) -> Tensor:
            moments = [self.head(self.bend(self.layer(x))) for x in window.unbind(1)]
            return torch.cat(moments, dim=1)

    assert max(errors(Policy(EachMoment(nn.Identity())), windows())) < 1e-12
    first, last = errors(Policy(EachMoment(nn.Tanh())), windows())
    assert 0.005 < first < 1
    assert last < 1e-12


def test_a_window_of_one_moment_makes_a_recurrent_layer_linear() -> None:
    """One use: factors are those of any layer, and exact for the layer behind the recurrence."""
    policy = Policy(GRU(3, 4), nn.Linear(4, 2))
    *_, last = errors(policy, windows(times=1))
    assert last < 1e-12
    block = kfac_on(policy, windows(times=1)).blocks[0]
    seen = windows(times=1)[:, 0]
    torch.testing.assert_close(block.input_factor[:3, :3], seen.T @ seen / len(seen))


def test_error_over_time_is_measured_not_zero() -> None:
    *recurrent, last = errors(Policy(GRU(3, 4), nn.Linear(4, 2)), windows())
    assert all(0.05 < error < 2 for error in recurrent)
    assert last < 1e-12


# ------------------------------------------------------------------------------- the operator


@pytest.mark.parametrize("damping", [1e-2, 1.0])
@pytest.mark.parametrize("kind", ["convolution", "recurrence"])
def test_preconditioner_is_the_dense_inverse(kind: str, damping: float) -> None:
    if kind == "convolution":
        layers = [as_picture(), nn.Conv2d(CHANNELS, 3, 3), nn.Tanh(), nn.Flatten()]
        policy, obs = Policy(*layers, nn.Linear(27, 2)), pictures()
    else:
        policy, obs = Policy(GRU(3, 4), nn.Linear(4, 2)), windows()
    kfac = kfac_on(policy, obs, damping)
    eye = torch.eye(len(kfac.dense()), dtype=torch.float64)
    inverse = torch.linalg.inv(kfac.dense() + damping * eye)
    applied = torch.stack([kfac.precondition(e) for e in eye], dim=1)
    torch.testing.assert_close(applied, inverse, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(kfac.multiply(applied @ eye[0]), eye[0], rtol=1e-8, atol=1e-8)


def test_kfc_aims_better_than_the_plain_gradient() -> None:
    """Gain at equal KL, judged by the exact Fisher matrix, in a network where KFC is not exact."""
    layers = [as_picture(), nn.Conv2d(CHANNELS, 3, 3, stride=2), nn.Tanh(), nn.Flatten()]
    policy, obs = Policy(*layers, nn.Linear(12, 2)), pictures(100)
    fisher = exact_fisher(policy, obs)
    judge = fisher + 1e-3 * torch.eye(len(fisher), dtype=torch.float64)
    gradient = noise(len(fisher), seed=5)
    best = (gradient @ torch.linalg.solve(judge, gradient)).sqrt()

    def quality(step: Tensor) -> float:
        return float(gradient @ step / ((step @ judge @ step).sqrt() * best))

    assert quality(kfac_on(policy, obs, 1e-3).precondition(gradient)) > 1.2 * quality(gradient)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Conv2d(2, 2, 3, groups=2), "groups"),
        (nn.Conv2d(2, 2, 3, padding="same"), "number of zeros"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "padding_mode"),
        (nn.Conv2d(2, 2, 3, bias=False), "with bias"),
        (nn.Conv1d(2, 2, 3), "not net.0.weight"),
    ],
)
def test_other_layers_are_refused_by_name(layer: nn.Module, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        KFAC(Policy(layer))
