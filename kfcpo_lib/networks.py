"""What turns an observation into a mean: an MLP, a CNN on pictures, a GRU on windows.

Every network takes flat observations [B, obs_dim], as all worlds give them; a CNN and a GRU give
them their shape back first. All weights are uniform in +-1/sqrt(inputs), all biases zero.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from kfcpo_lib.records import NETWORKS

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

CHANNELS = (4, 8)
"""Output channels of the two convolutions, 3 x 3 with stride 2."""


def tanh_network(sizes: Sequence[int], generator: torch.Generator | None = None) -> nn.Sequential:
    """Linear layers of these sizes with tanh between them.

    Weights are uniform in +-1/sqrt(inputs), drawn from `generator`; biases are zero.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [_started(nn.Linear(n_in, n_out), generator), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def convolutional_network(
    shape: Sequence[int], sizes: Sequence[int], generator: torch.Generator | None = None
) -> nn.Sequential:
    """Two convolutions with tanh, then a `tanh_network` of these sizes.

    Args:
        shape: channels, height and width of a picture.
        sizes: widths of the linear layers, the output's last.
        generator: source of the weights.
    """
    channels, height, width = shape
    layers: list[nn.Module] = [nn.Unflatten(1, (channels, height, width))]
    for n_in, n_out in itertools.pairwise((channels, *CHANNELS)):
        convolution = nn.Conv2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
        layers += [_started(convolution, generator), nn.Tanh()]
        height, width = (height + 1) // 2, (width + 1) // 2
    head = tanh_network([CHANNELS[-1] * height * width, *sizes], generator)
    return nn.Sequential(*layers, nn.Flatten(), *head)


def recurrent_network(
    shape: Sequence[int], sizes: Sequence[int], generator: torch.Generator | None = None
) -> nn.Sequential:
    """A GRU over the moments of a window, then a `tanh_network` from its last state.

    Args:
        shape: moments in the window (oldest first), numbers in each.
        sizes: of the GRU's state and of the linear layers after it, the output's last.
        generator: source of the weights.
    """
    moments, n_in = shape
    gru = GRU(n_in, sizes[0], generator)
    return nn.Sequential(nn.Unflatten(1, (moments, n_in)), gru, *tanh_network(sizes, generator))


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014): windows [B, T, in] -> the last state [B, size].

        r = sigmoid(W_r x + U_r h)        reset: how much of the old state the candidate sees
        z = sigmoid(W_z x + U_z h)        update: how much of the old state stays
        n = tanh(W_n x + r * (U_n h))     candidate
        h' = (1 - z) * n + z * h

    The state starts at zero. W and U are two plain linear layers of three parts each, used at each
    moment, so that K-FAC sees what goes through them.
    """

    def __init__(self, n_in: int, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.from_input = _started(nn.Linear(n_in, 3 * size), generator)
        self.from_state = _started(nn.Linear(size, 3 * size), generator)
        self.size = size

    def forward(self, window: Tensor) -> Tensor:
        """The state after the window's last moment."""
        state = window.new_zeros(len(window), self.size)
        for inputs in self.from_input(window).unbind(1):
            reset_x, update_x, new_x = inputs.chunk(3, dim=1)
            reset_h, update_h, new_h = self.from_state(state).chunk(3, dim=1)
            update = torch.sigmoid(update_x + update_h)
            candidate = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
            state = (1 - update) * candidate + update * state
        return state


def make_network(
    kind: str,
    shape: Sequence[int],
    sizes: Sequence[int],
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A network from flat observations of this shape to `sizes[-1]` numbers.

    Args:
        kind: one of `NETWORKS`; `mlp` takes every shape.
        shape: of an observation before it was laid flat.
        sizes: widths of the layers, the output's last.
        generator: source of the weights.

    Raises:
        ValueError: on an unknown kind, or a shape that it cannot take.
    """
    if kind == "mlp":
        return tanh_network([math.prod(shape), *sizes], generator)
    if kind == "cnn" and len(shape) == 3:
        return convolutional_network(shape, sizes, generator)
    if kind == "gru" and len(shape) == 2 and len(sizes) > 1:
        return recurrent_network(shape, sizes, generator)
    needs = {
        "cnn": "pictures (channels, height, width)",
        "gru": "windows (moments, numbers) and a hidden size for its state",
    }
    if kind not in needs:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {kind!r}")
    raise ValueError(
        f"network {kind!r} needs {needs[kind]}, "
        f"got observations of shape {(*shape,)} and hidden sizes {(*sizes[:-1],)}"
    )


def plain_forward(net: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """`net` as it is now, for many small batches without gradients: the same numbers.

    What a module adds to its layer takes as long as the layer, if there are few states.
    """
    steps: list[Callable[[Tensor], Tensor]] = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.detach(), layer.bias.detach()
            steps.append(functools.partial(nn.functional.linear, weight=weight, bias=bias))
        else:
            steps.append(torch.tanh if isinstance(layer, nn.Tanh) else layer)

    def forward(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return forward


def _started(layer: Layer, generator: torch.Generator | None) -> Layer:
    bound = layer.weight[0].numel() ** -0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
