"""What rules learn about the limit: TRPO-Lag's, PPO-Lag's and CUP's multiplier, CPO's margin."""

from typing import Any

import torch
from torch import Tensor


class Multiplier:
    """lambda >= 0, raised while the episodic cost is above its limit and lowered below it.

    One Adam step on -lambda (J_C - C) per epoch, then clipped to [0, upper]. Adam divides by the
    size of the violation: lambda moves by about the learning rate an epoch, whatever the size.
    """

    def __init__(self, start: float, learning_rate: float, upper: float = float("inf")) -> None:
        self.upper = upper
        self.tensor = torch.tensor(float(start), requires_grad=True)
        self.optimiser = torch.optim.Adam([self.tensor], lr=learning_rate)

    @property
    def value(self) -> float:
        """The present multiplier."""
        return float(self.tensor.detach())

    @property
    def cost_weight(self) -> float:
        """lambda / (1 + lambda), the share of the cost in the Lagrangian."""
        return self.value / (1.0 + self.value)

    def update(self, episodic_cost: float | None, cost_limit: float) -> float:
        """Take one step, unless no episode has ended yet; returns the new value."""
        if episodic_cost is None:
            return self.value
        self.tensor.grad = torch.tensor(float(cost_limit - episodic_cost))
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


class Margin:
    """m, cost per episode by which CPO and PCPO tighten the limit: m <- m + rate (J_C - C).

    Noise makes both rules expect more of a step than it brings, so that their cost settles above
    the limit; the sum of all violations does not let it. Of the CPO authors' own code, optional
    there too. Ours: m stays in [0, C], since a limit below zero could never be met, and what a
    bad start has piled up would be paid for long after.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.value = 0.0

    def update(self, episodic_cost: float | None, cost_limit: float) -> float:
        """Take one step, unless no episode has ended yet; returns the tightened limit."""
        if episodic_cost is not None:
            larger = self.value + self.rate * (episodic_cost - cost_limit)
            self.value = min(max(larger, 0.0), cost_limit)
        return cost_limit - self.value

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.value = state["value"]


def lagrangian_advantage(reward: Tensor, cost: Tensor, multiplier: float) -> Tensor:
    """[B] (A_r - lambda A_c) / (1 + lambda): the division keeps its size as lambda grows."""
    return (reward - multiplier * cost) / (1.0 + multiplier)
