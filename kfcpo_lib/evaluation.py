"""Judging a stored policy on fresh episodes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.policies import GaussianPolicy, ObservationNormaliser
from kfcpo_lib.runs import read_config, read_policy
from kfcpo_lib.training import one_torch_thread

EVALUATION_SEED = 2_000_000_000
"""First stock seed of evaluations, far from every training seed below 200,000."""
MOST_ENVS = 20


@dataclass(frozen=True)
class Evaluation:
    """Returns and costs of fresh whole episodes."""

    actions: str
    """`sampled` from the policy, or its `mean`: two different policies."""
    cost_limit: float
    returns: NDArray[np.float64]
    """[episodes]"""
    costs: NDArray[np.float64]
    """[episodes]"""

    @property
    def within_limit(self) -> float:
        """Share of the episodes whose own cost is within the limit."""
        return float(np.mean(self.costs <= self.cost_limit))

    def __str__(self) -> str:
        low, high = mean_interval(self.costs)
        return_low, return_high = mean_interval(self.returns)
        return (
            f"{self.actions} actions, {len(self.costs)} episodes: "
            f"return {self.returns.mean():.1f} [{return_low:.1f}, {return_high:.1f}], "
            f"cost {self.costs.mean():.1f} [{low:.1f}, {high:.1f}] of {self.cost_limit:g}, "
            f"{self.within_limit:.0%} of the episodes within the limit (95 % intervals)"
        )


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean; both ends are the value itself if there is only one."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.t.interval(confidence, len(values) - 1, values.mean(), stats.sem(values))
    return float(interval[0]), float(interval[1])


def load_policy(run: str | Path, name: str = "policy.pt") -> tuple[Any, Any, str]:
    """Policy, observation normaliser and environment id of a stored run.

    Raises:
        ValueError: if there is no such policy, or it is damaged.
    """
    stored = read_policy(run, name)
    policy = GaussianPolicy(stored["obs_dim"], stored["act_dim"], stored["hidden_sizes"])
    policy.load_state_dict(stored["policy"])
    normaliser = ObservationNormaliser(stored["obs_dim"])
    normaliser.load_state_dict(stored["normaliser"])
    return policy, normaliser, stored["env_id"]


@torch.no_grad()
def evaluate(
    run: str | Path, episodes: int = 100, actions: str = "sampled", *, seed: int | None = None
) -> Evaluation:
    """Play whole episodes with a run's last policy.

    Args:
        run: the run's folder.
        episodes: how many; the first to finish would be the short ones, so every environment
            plays the same number and the surplus is dropped.
        actions: `sampled` or `mean`.
        seed: stock seed of the first environment; None: one that no training uses.

    Raises:
        ValueError: on a bad argument, or if the folder holds no readable policy.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if actions not in ("sampled", "mean"):
        raise ValueError(f"actions must be sampled or mean, got {actions!r}")
    policy, normaliser, env_id = load_policy(run)
    cost_limit = float(read_config(run)["settings"]["cost_limit"])
    num_envs = min(episodes, MOST_ENVS)
    rounds = -(-episodes // num_envs)
    first_seed = EVALUATION_SEED if seed is None else seed
    env = make_vec_env(env_id, num_envs, first_seed)
    noise = torch.Generator().manual_seed(first_seed)
    totals = np.zeros((2, num_envs))
    finished: list[list[NDArray[np.float64]]] = [[] for _ in range(num_envs)]
    obs = env.reset()
    bar = tqdm(total=rounds * num_envs, unit="episode", leave=False, delay=2)
    with one_torch_thread(), bar:
        while min(len(of_env) for of_env in finished) < rounds:
            distribution = policy(torch.from_numpy(normaliser(obs)))
            chosen = distribution.sample(noise) if actions == "sampled" else distribution.mean
            result = env.step(chosen.double().numpy())
            obs = result.obs
            totals += result.reward, result.cost
            for i in np.flatnonzero(result.terminated | result.truncated):
                finished[i].append(totals[:, i].copy())
                totals[:, i] = 0.0
                bar.update()
    env.close()
    whole = np.array([episode for of_env in finished for episode in of_env[:rounds]])[:episodes]
    return Evaluation(actions, cost_limit, whole[:, 0], whole[:, 1])
