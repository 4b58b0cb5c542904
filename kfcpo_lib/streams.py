"""The random streams of one run: one per purpose, none shared between seeds or purposes."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

PLACES_PER_SEED = 8
"""Room for so many purposes."""
SPREAD = 2_654_435_761
"""An odd number, so that multiplying by it modulo 2^32 takes different places to different starts;
near 2^32 divided by the golden ratio, so that the starts of neighbours have few bits in common."""


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
        """The streams of a run; no two seeds below 2^29 share one.

        PyTorch's generator on the CPU has 2^32 starts: it looks at no more bits of a seed.
        """
        places = (PLACES_PER_SEED * seed + purpose for purpose in range(len(fields(cls))))
        starts = (place * SPREAD % 2**32 for place in places)
        return cls(*(torch.Generator().manual_seed(start) for start in starts))

    def state_dict(self) -> dict[str, Tensor]:
        """Where every stream stands."""
        return {f.name: getattr(self, f.name).get_state() for f in fields(self)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue every stream where it stood."""
        for name, position in state.items():
            getattr(self, name).set_state(position)
