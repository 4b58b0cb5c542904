"""How K-FAC and conjugate gradient fare as a policy gets deeper: time, and quality of the step.

`python -m kfcpo_lib bench depth`. Times are those of `bench update`. The quality of a direction x
is its gain at equal KL, g'x / sqrt(x'Fx g'F^-1 g), at most 1: the share of the best first-order
gain. F is the batch's exact Fisher matrix, damped as both methods are; F^-1 g is found by many
iterations of conjugate gradient.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.benchmarks.update import measure
from kfcpo_lib.fisher import ConjugateGradientFisher, Operator, conjugate_gradient, fisher_operator
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.training import one_torch_thread
from kfcpo_lib.trust_region import flat_gradient

OBS_DIM, ACT_DIM, WIDTH = 60, 2, 64
DEPTHS = (2, 4, 8)
BEST_ITERATIONS = 300


def main(words: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench depth", description=__doc__)
    parser.add_argument("--batch", type=int, default=2_000, help="states in the batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    with one_torch_thread():
        rows = [row(depth, options.batch, options.rounds) for depth in DEPTHS]
    print(table(rows))
    save_results(options.out, "depth", rows, batch=options.batch, rounds=options.rounds)
    return 0


def row(depth: int, batch: int, rounds: int) -> dict[str, Any]:
    """Times and qualities at one depth."""
    times = measure(f"{depth} of {WIDTH}", (WIDTH,) * depth, batch, rounds)
    shares = qualities(depth, batch)
    return times | {f"quality of {name}": round(share, 3) for name, share in shares.items()}


def deep_policy(depth: int, seed: int = 0) -> GaussianPolicy:
    """`depth` hidden layers of 64; the last layer in its full size, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianPolicy(OBS_DIM, ACT_DIM, (WIDTH,) * depth, generator=generator).double()
    with torch.no_grad():
        policy.mean_net[-1].get_parameter("weight").mul_(100.0)
    return policy


def qualities(depth: int, batch: int, iterations: int = 15) -> dict[str, float]:
    """Share of the best gain that each method's direction has, on one batch."""
    policy = deep_policy(depth)
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(batch, OBS_DIM, generator=generator, dtype=torch.float64)
    target = torch.stack([torch.sin(2 * obs[:, 0] + obs[:, 1]), obs[:, 2] * obs[:, 3]], dim=1)
    loss = ((policy(obs).mean - target) ** 2).sum(1).mean()
    gradient = -flat_gradient(loss, list(policy.parameters())).detach()
    kfac, cg = KFAC(policy), ConjugateGradientFisher(policy, iterations=iterations)
    kfac.update_factors(obs)
    cg.update_factors(obs)
    judge = fisher_operator(policy, obs, kfac.damping)
    best = conjugate_gradient(judge, gradient, BEST_ITERATIONS)
    directions = {
        "K-FAC": kfac.precondition(gradient),
        "conjugate gradient": cg.precondition(gradient),
        "plain gradient": gradient,
    }
    top = gain(best, gradient, judge)
    return {name: gain(x, gradient, judge) / top for name, x in directions.items()}


def gain(direction: Tensor, gradient: Tensor, judge: Operator) -> float:
    """g'x for a step of unit length in the judge's metric."""
    return float(gradient @ direction / (direction @ judge(direction)).sqrt())
