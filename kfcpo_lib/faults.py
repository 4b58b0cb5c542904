"""Silent bugs on purpose: one function of KFCPO swapped for a wrong one, and put back afterwards.

None of them stops a training, none prints a warning. Each wrong function stands here as it might
in anybody's code, docstring and all. For notebook 11 and the tests of `diagnose`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kfcpo_lib import rollouts, trust_region
from kfcpo_lib.algorithms import kfcpo, surrogates
from kfcpo_lib.algorithms.surrogates import Surrogates, likelihood_ratio
from kfcpo_lib.blending import margin_weights
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac import KroneckerBlock
from kfcpo_lib.policies import Critics
from kfcpo_lib.rollouts import Batch


def flipped_cost_sign(present: Gaussian, batch: Batch) -> Surrogates:
    """Both surrogates of the present policy, two scalars."""
    ratio = likelihood_ratio(present, batch)
    reward, cost = batch.advantage_reward, batch.advantage_cost
    return Surrogates((ratio * reward).mean(), -(ratio * cost).mean())


def broadcast_product(present: Gaussian, batch: Batch) -> Surrogates:
    """Both surrogates of the present policy, two scalars."""
    ratio = likelihood_ratio(present, batch).unsqueeze(1)
    reward, cost = batch.advantage_reward, batch.advantage_cost
    return Surrogates((ratio * reward).mean(), (ratio * cost).mean())


def swapped_weights(
    episodic_cost: float, cost_limit: float, margin_lambda: float, steepness_k: float
) -> tuple[float, float]:
    """The weights of both directions."""
    weights = margin_weights(episodic_cost, cost_limit, margin_lambda, steepness_k)
    return weights[1], weights[0]


def aliased_snapshot(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach() for parameter in parameters]


def one_critic_twice(critics: Critics, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Values ([...], [...]) of reward and cost in the states [..., obs_dim]."""
    return critics.reward(obs).squeeze(-1), critics.reward(obs).squeeze(-1)


def decomposed_once(block: KroneckerBlock) -> None:
    """The eigendecompositions of the factors: expensive, so only if they are not there yet."""
    if block.eigenvalues.any():
        return
    input_values, block.input_basis = torch.linalg.eigh(block.input_factor)
    output_values, block.output_basis = torch.linalg.eigh(block.output_factor)
    block.eigenvalues = torch.outer(output_values.clamp(min=0), input_values.clamp(min=0))


def truncation_as_end(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    discount: float,
    gae_lambda: float,
) -> Array:
    """Generalised advantage estimation, all arrays [T, N]."""
    advantage, running = np.empty_like(reward), np.zeros(reward.shape[1])
    goes_on = ~(terminated | truncated)
    delta = reward + discount * next_value * goes_on - value
    for t in reversed(range(len(reward))):
        running = delta[t] + discount * gae_lambda * goes_on[t] * running
        advantage[t] = running
    return advantage


@dataclass(frozen=True)
class Fault:
    """A wrong function, and where KFCPO would call it."""

    place: Any
    """The module or class through which it is called."""
    name: str
    """Its name there."""
    wrong: Callable[..., Any]


FAULTS: dict[str, Fault] = {
    "flipped_cost_sign": Fault(surrogates, "surrogates", flipped_cost_sign),
    "broadcast_product": Fault(surrogates, "surrogates", broadcast_product),
    "swapped_weights": Fault(kfcpo, "margin_weights", swapped_weights),
    "aliased_snapshot": Fault(trust_region, "snapshot", aliased_snapshot),
    "one_critic_twice": Fault(Critics, "forward", one_critic_twice),
    "decomposed_once": Fault(KroneckerBlock, "decompose", decomposed_once),
    "truncation_as_end": Fault(rollouts, "gae", truncation_as_end),
}


@contextmanager
def swapped(fault: str, function: Callable[..., Any] | None = None) -> Iterator[None]:
    """Inside the block KFCPO calls the wrong function of `FAULTS`, or the given one in its place.

    The library's own comes back in any case. Not for two threads at a time.

    Raises:
        ValueError: if there is no such fault; names those there are.
    """
    if fault not in FAULTS:
        raise ValueError(f"there is no fault {fault!r}; there are {', '.join(FAULTS)}")
    place, name = FAULTS[fault].place, FAULTS[fault].name
    before = getattr(place, name)
    setattr(place, name, function or FAULTS[fault].wrong)
    try:
        yield
    finally:
        setattr(place, name, before)
