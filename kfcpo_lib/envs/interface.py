"""What every vectorised environment of the course looks like, real or toy."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class StepResult(NamedTuple):
    """One step of all environments. An environment whose episode ended has been reset already."""

    obs: Array
    """[num_envs, obs_dim] what to act on next: the first observation of a new episode, if ended."""
    reward: Array
    """[num_envs] reward of this step."""
    cost: Array
    """[num_envs] cost of this step, 0 or 1 in Safety Gymnasium."""
    terminated: NDArray[np.bool_]
    """[num_envs] the episode ended in a state without a future."""
    truncated: NDArray[np.bool_]
    """[num_envs] the episode was cut (by its time limit): its last state still has a future."""
    final_obs: Array
    """[num_envs, obs_dim] last observation of the ended episodes; equal to `obs` in other rows."""


class VecEnv(Protocol):
    """Environments stepped side by side, with automatic reset."""

    env_id: str
    num_envs: int
    obs_dim: int
    obs_shape: tuple[int, ...]
    """What the `obs_dim` numbers of an observation were before they were laid flat: (obs_dim,), a
    picture's (channels, height, width), or a window's (moments, numbers)."""
    act_dim: int
    max_episode_steps: int
    simulator_errors: int
    """Episodes that an exception of the simulator has ended so far (truncated, cost 1)."""

    def reset(self, *, stagger: bool = False) -> Array:
        """Start new episodes; [num_envs, obs_dim].

        With `stagger`, environment i's first episode is cut after (i + 1) / num_envs of its
        length (rounded up), so that later ends are spread evenly.
        """
        ...

    def step(self, actions: Array) -> StepResult:
        """Step all environments; `actions` is [num_envs, act_dim] (clipped by the simulator)."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Everything the future depends on, as nested dicts of arrays and numbers.

        None where the simulator cannot tell (stock environments).
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state()` of an environment of the same id and size returned."""
        ...

    def close(self) -> None:
        """Free threads and simulators."""
        ...


def staggered_lengths(num_envs: int, max_episode_steps: int) -> NDArray[np.int64]:
    """[num_envs] steps of the first episodes, evenly spread up to the full length.

    >>> staggered_lengths(4, 1000)
    array([ 250,  500,  750, 1000])
    """
    share = np.arange(1, num_envs + 1) * max_episode_steps
    return -(-share // num_envs)
