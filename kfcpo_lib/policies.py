"""The agent's networks: Gaussian policy, value functions, observation normaliser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.networks import make_network, tanh_network


class GaussianPolicy(nn.Module):
    """States [B, obs_dim] -> `Gaussian` over actions; the log std does not depend on the state.

    The last layer starts a hundred times smaller, so the first actions are nearly pure noise.

    Args:
        obs_shape: numbers in an observation, or the shape of a picture or window (given flat).
        act_dim: numbers in an action.
        hidden_sizes: see `kfcpo_lib.networks`.
        log_std_start: log sigma before the first update.
        generator: source of the weights.
        network: `mlp`, `cnn` or `gru`.
    """

    def __init__(
        self,
        obs_shape: int | Sequence[int],
        act_dim: int,
        hidden_sizes: Sequence[int] = (64, 64),
        log_std_start: float = -0.5,
        generator: torch.Generator | None = None,
        network: str = "mlp",
    ) -> None:
        super().__init__()
        shape = (obs_shape,) if isinstance(obs_shape, int) else tuple(obs_shape)
        self.hidden_sizes, self.network = tuple(hidden_sizes), network
        self.log_std = nn.Parameter(torch.full((act_dim,), float(log_std_start)))
        self.mean_net = make_network(network, shape, [*hidden_sizes, act_dim], generator)
        last = self.mean_net[-1]
        with torch.no_grad():
            last.get_parameter("weight").mul_(0.01)

    def forward(self, obs: Tensor) -> Gaussian:
        """The action distribution in each state."""
        return Gaussian(self.mean_net(obs), self.log_std)


class Critics(nn.Module):
    """Two separate value functions: of the reward and of the cost."""

    def __init__(
        self,
        obs_dim: int,
        hidden_sizes: Sequence[int] = (64, 64),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.reward = tanh_network([obs_dim, *hidden_sizes, 1], generator)
        self.cost = tanh_network([obs_dim, *hidden_sizes, 1], generator)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Values ([...], [...]) of reward and cost in the states [..., obs_dim]."""
        return self.reward(obs).squeeze(-1), self.cost(obs).squeeze(-1)


class ObservationNormaliser:
    """Running mean and variance of the observations (Chan et al. 1979), clipped to +-`clip`.

    The statistics change between epochs only, so that the policy that is updated is exactly the
    policy that collected the data. Before the first update observations pass unscaled.
    """

    def __init__(self, obs_dim: int, clip: float = 5.0, std_floor: float = 1e-2) -> None:
        self.clip, self.std_floor = clip, std_floor
        self.count = 0
        self.mean = np.zeros(obs_dim)
        self.sum_of_squares = np.zeros(obs_dim)

    def update(self, obs: NDArray[np.float64]) -> None:
        """Take observations [..., obs_dim] into the statistics."""
        batch = obs.reshape(-1, obs.shape[-1])
        batch_mean = batch.mean(axis=0)
        total = self.count + len(batch)
        distance = batch_mean - self.mean
        self.sum_of_squares += ((batch - batch_mean) ** 2).sum(axis=0)
        self.sum_of_squares += distance**2 * (self.count * len(batch) / total)
        self.mean += distance * (len(batch) / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """[obs_dim] standard deviation, at least `std_floor`; ones before the first update."""
        if not self.count:
            return np.ones_like(self.mean)
        std: NDArray[np.float64] = np.sqrt(self.sum_of_squares / self.count)
        return np.maximum(std, self.std_floor)

    def __call__(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Normalised observations, shaped as `obs`, in single precision."""
        scaled = (obs - self.mean) / self.std
        clipped = np.minimum(np.maximum(scaled, -self.clip), self.clip)
        return clipped.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """The statistics, as tensors and numbers."""
        return {
            "count": self.count,
            "mean": torch.from_numpy(self.mean.copy()),
            "sum_of_squares": torch.from_numpy(self.sum_of_squares.copy()),
            "clip": self.clip,
            "std_floor": self.std_floor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.count = int(state["count"])
        self.mean = state["mean"].numpy().copy()
        self.sum_of_squares = state["sum_of_squares"].numpy().copy()
        self.clip, self.std_floor = state["clip"], state["std_floor"]
