"""The random streams of one run: one per purpose, none shared between seeds or purposes."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass
class Streams:
    """Independent generators, so that changing one use of randomness moves no other.

    The environments have streams of their own (stock seeds).
    """

    networks: torch.Generator
    """Initial weights."""
    actions: torch.Generator
    minibatches: torch.Generator
    """Order of the policy's minibatches."""
    critics: torch.Generator
    """Order of the critics' minibatches."""
    fisher: torch.Generator
    """Actions drawn for a sampled Fisher matrix."""

    @classmethod
    def of_seed(cls, seed: int) -> "Streams":
        """The streams of a run: children of one NumPy `SeedSequence`, hence independent."""
        children = np.random.SeedSequence(seed).spawn(len(fields(cls)))
        seeds = [int(child.generate_state(1, np.uint64)[0] >> np.uint64(1)) for child in children]
        return cls(*(torch.Generator().manual_seed(s) for s in seeds))

    def state_dict(self) -> dict[str, Tensor]:
        """Where every stream stands."""
        return {f.name: getattr(self, f.name).get_state() for f in fields(self)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue every stream where it stood."""
        for name, position in state.items():
            getattr(self, name).set_state(position)
