"""Weight sharing: one weight matrix, used at many places (convolutions) or times (recurrences).

A layer that is used at T places sees inputs a_t and scores g_t (the gradients of log pi at its
outputs), and its weights' gradient is the sum over them. K-FAC's block keeps its form,

    F_W = E[(sum_t g_t a_t') (sum_t g_t a_t')' as vectors]  ~  G kron A,
    A = sum_t E[a_t a_t'],    G = 1/T sum_t E[g_t g_t'],

under three assumptions: scores do not depend on inputs, those of two places are uncorrelated, and
their statistics are the same everywhere (Grosse & Martens 2016 for convolutions: KFC; Martens, Ba
& Johnson 2018 for recurrences). With T = 1 it is K-FAC as it always was.

Here every layer's inputs are brought to [B, T, in] and its scores to [..., B, T, out].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KroneckerLayer = nn.Linear | nn.Conv2d


def check_layer(layer: KroneckerLayer) -> None:
    """Raise a ValueError if K-FAC does not know this kind of layer."""
    if layer.bias is None:
        raise ValueError("KFAC needs linear and convolutional layers with bias")
    if isinstance(layer, nn.Conv2d) and (
        layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    ):
        raise ValueError(
            f"KFAC needs convolutions with groups=1 and a number of zeros as padding, got {layer}"
        )


def inputs_by_place(layer: KroneckerLayer, uses: Sequence[Tensor]) -> Tensor:
    """[B, T, in] what the layer has seen, over all its uses in one forward pass.

    A use of a linear layer is [B, in] or, at many places at once, [B, T, in]; one of a convolution
    is [B, channels, height, width], and its places are the patches that the kernel looks at.
    """
    places = [_patches(layer, use) for use in uses]
    return places[0] if len(places) == 1 else torch.cat(places, dim=1)


def scores_by_place(layer: KroneckerLayer, uses: Sequence[Tensor]) -> Tensor:
    """[S, B, T, out] from the scores at the layer's outputs, [S, *output] for each use."""
    if isinstance(layer, nn.Conv2d):
        uses = [use.flatten(3).transpose(2, 3) for use in uses]
    places = [use if use.ndim == 4 else use.unsqueeze(2) for use in uses]
    return places[0] if len(places) == 1 else torch.cat(places, dim=2)


def _patches(layer: KroneckerLayer, use: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return use if use.ndim == 3 else use.unsqueeze(1)
    window = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return nn.functional.unfold(use, *window).transpose(1, 2)  # type: ignore[arg-type]
