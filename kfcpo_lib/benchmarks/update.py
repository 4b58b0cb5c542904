"""What one natural gradient costs: K-FAC against conjugate gradient, on the same batch.

`python -m kfcpo_lib bench update`. Both turn the same two gradients (reward, cost) into natural
directions: K-FAC with fresh factors and eigendecompositions, conjugate gradient with 15
iterations per direction on the batch's exact Fisher. Rounds alternate, so noise hits both.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.fisher import ConjugateGradientFisher, FisherMetric
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.training import one_torch_thread

SHAPES = {"64 x 64": (64, 64), "256 x 256": (256, 256), "8 layers of 64": (64,) * 8}
OBS_DIM, ACT_DIM = 60, 2


def main(words: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench update", description=__doc__)
    parser.add_argument("--batch", type=int, default=2_000, help="states in the batch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    with one_torch_thread():
        rows = [
            measure(name, sizes, options.batch, options.rounds) for name, sizes in SHAPES.items()
        ]
    print(table(rows))
    save_results(options.out, "update", rows, batch=options.batch, rounds=options.rounds)
    return 0


def measure(name: str, sizes: tuple[int, ...], batch: int, rounds: int) -> dict[str, object]:
    """Median times and their ratio for one shape of network."""
    generator = torch.Generator().manual_seed(0)
    policy = GaussianPolicy(OBS_DIM, ACT_DIM, sizes, generator=generator)
    obs = torch.randn(batch, OBS_DIM, generator=generator)
    total = sum(p.numel() for p in policy.parameters())
    gradients = torch.randn(2, total, generator=generator)
    contestants: dict[str, FisherMetric] = {
        "kfac": KFAC(policy),
        "cg": ConjugateGradientFisher(policy, iterations=15),
    }
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    for _ in range(rounds + 1):
        for who, fisher in contestants.items():
            seconds[who].append(_timed(partial(natural, fisher, obs, gradients)))
    kfac, cg = (float(np.median(times[1:])) for times in (seconds["kfac"], seconds["cg"]))
    return {
        "hidden layers": name,
        "parameters": total,
        "K-FAC ms": round(1e3 * kfac, 2),
        "conjugate gradient ms": round(1e3 * cg, 2),
        "conjugate gradient / K-FAC": round(cg / kfac, 2),
    }


def natural(fisher: FisherMetric, obs: torch.Tensor, gradients: torch.Tensor) -> None:
    """Statistics of the batch, then both natural directions."""
    fisher.update_factors(obs)
    for gradient in gradients:
        fisher.precondition(gradient)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
