"""The Lagrange multiplier that TRPO-Lag, PPO-Lag and CUP share: dual ascent by Adam."""

from typing import Any

import torch


class Multiplier:
    """lambda >= 0, raised while the episodic cost is above its limit and lowered below it.

    One Adam step on -lambda (J_C - C) per epoch, then clipped to [0, upper].
    """

    def __init__(self, start: float, learning_rate: float, upper: float = float("inf")) -> None:
        self.upper = upper
        self.tensor = torch.tensor(float(start), requires_grad=True)
        self.optimiser = torch.optim.Adam([self.tensor], lr=learning_rate)

    @property
    def value(self) -> float:
        """The present multiplier."""
        return float(self.tensor.detach())

    def update(self, episodic_cost: float | None, cost_limit: float) -> float:
        """Take one step, unless no episode has ended yet; returns the new value."""
        if episodic_cost is None:
            return self.value
        self.tensor.grad = torch.tensor(cost_limit - episodic_cost)
        self.optimiser.step()
        with torch.no_grad():
            self.tensor.clamp_(0.0, self.upper)
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"value": self.value, "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        with torch.no_grad():
            self.tensor.fill_(state["value"])
        self.optimiser.load_state_dict(state["optimiser"])
