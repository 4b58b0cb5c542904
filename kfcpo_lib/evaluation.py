"""Judging a stored policy on fresh episodes."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from kfcpo_lib.envs import VecEnv, make_vec_env
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.evidence import mean_interval
from kfcpo_lib.policies import GaussianPolicy, ObservationNormaliser
from kfcpo_lib.records import Knobs, check_integer
from kfcpo_lib.runs import read_config, read_evaluation, read_policy, write_whole
from kfcpo_lib.training import one_torch_thread

EVALUATION_SEED = 2_000_000_000
"""First stock seed of evaluations, far from every training seed below 200,000."""
HIGHEST_SEED = 2**32 - 1 - 10_000
"""Stock seeds have 32 bits, and environment i adds i."""
MOST_ENVS = 20
ACTIONS = ("sampled", "mean")


@dataclass(frozen=True)
class Evaluation:
    """Returns and costs of fresh whole episodes."""

    actions: str
    """`sampled` from the policy, or its `mean`: two different policies."""
    cost_limit: float
    """The limit in `config.json`, with which the run began: turned knobs do not change it."""
    returns: Array
    """[episodes]"""
    costs: Array
    """[episodes]"""

    @property
    def within_limit(self) -> float:
        """Share of the episodes whose own cost is within the limit."""
        return float(np.mean(self.costs <= self.cost_limit))

    def __str__(self) -> str:
        single = len(self.costs) == 1
        return (
            f"{self.actions} actions, {len(self.costs)} episode{'' if single else 's'}: "
            f"return {_mean_in_words(self.returns)}, "
            f"cost {_mean_in_words(self.costs)} of {self.cost_limit:g}, "
            f"{self.within_limit:.0%} of the episodes within the limit"
            f"{'' if single else ' (95 % intervals)'}"
        )


def _mean_in_words(scores: Array) -> str:
    """The mean of [episodes], and its interval where there are two of them or more."""
    low, high = mean_interval(scores)
    return f"{scores.mean():.1f}" + (f" [{low:.1f}, {high:.1f}]" if len(scores) > 1 else "")


def load_policy(run: str | Path, name: str = "policy.pt") -> tuple[Any, Any, str]:
    """Policy, observation normaliser and environment id of a stored run.

    Raises:
        ValueError: if there is no such policy, or it is damaged.
    """
    stored = read_policy(run, name)
    try:
        shape = stored.get("obs_shape", stored["obs_dim"])
        network = stored.get("network", "mlp")
        sizes = stored["act_dim"], stored["hidden_sizes"]
        policy = GaussianPolicy(shape, *sizes, network=network)
        policy.load_state_dict(stored["policy"])
        normaliser = ObservationNormaliser(stored["obs_dim"])
        normaliser.load_state_dict(stored["normaliser"])
        return policy, normaliser, str(stored["env_id"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{Path(run) / name} is not a whole policy: {reason}") from error


def evaluate(
    run: str | Path,
    episodes: int = 100,
    actions: str = "sampled",
    *,
    seed: int | None = None,
    env_threads: int | None = None,
) -> Evaluation:
    """Play whole episodes with a run's last policy; judged by the cost limit in `config.json`.

    Args:
        run: the run's folder.
        episodes: how many; the first to finish would be the short ones, so every environment
            plays the same number and the surplus is dropped.
        actions: `sampled` or `mean`.
        seed: stock seed of the first environment; None: one that no training uses.
        env_threads: threads of the simulator; None: one per processor.

    Raises:
        ValueError: on a bad argument, or if the folder holds no readable policy.
        FloatingPointError: if the simulator returns a number that is not finite.
    """
    episodes = check_integer("episodes", episodes, 1)
    first_seed = EVALUATION_SEED if seed is None else check_integer("seed", seed, 0, HIGHEST_SEED)
    act = make_actor(run, "policy.pt", actions, first_seed)
    env_id = load_policy(run)[2]
    cost_limit = Knobs(cost_limit=read_config(run)["settings"].get("cost_limit")).cost_limit
    num_envs = min(episodes, MOST_ENVS)
    rounds = -(-episodes // num_envs)
    with closing(make_vec_env(env_id, num_envs, first_seed, num_threads=env_threads)) as env:
        played = play(env, act, rounds).reshape(-1, 2)[:episodes]
    return Evaluation(actions, cost_limit, played[:, 0], played[:, 1])


def store_evaluation(
    run: str | Path, episodes: int = 100, *, env_threads: int | None = None
) -> None:
    """Evaluate a run's last policy with sampled and with mean actions, into `evaluation.csv`.

    A row an episode: `actions, env_steps` (how long the policy had been trained),
    `episode_return, episode_cost`. The file appears in one piece.

    Raises:
        ValueError: if there is no readable policy, or if it changes meanwhile.
    """
    trained = read_policy(run)["env_steps"]
    tables = []
    for actions in ACTIONS:
        result = evaluate(run, episodes, actions, env_threads=env_threads)
        columns = {"episode_return": result.returns, "episode_cost": result.costs}
        tables.append(pd.DataFrame({"actions": actions} | columns))
    table = pd.concat(tables)
    table.insert(1, "env_steps", trained)
    if read_policy(run)["env_steps"] != trained:
        raise ValueError(f"{run} is being trained: its policy changed while it was evaluated")
    write_whole(Path(run) / "evaluation.csv", table.to_csv(index=False).encode())


def stored_evaluation(run: str | Path, actions: str = "sampled") -> Evaluation:
    """What `store_evaluation` has stored; judged by the cost limit in `config.json`.

    Raises:
        ValueError: if the run has not been evaluated (with these actions), or the table is damaged,
            or there are no such actions.
    """
    check_actions(actions)
    table = read_evaluation(run)
    chosen = table[table["actions"] == actions]
    if chosen.empty:
        raise ValueError(f"{run} has not been evaluated with {actions} actions")
    cost_limit = read_config(run)["settings"]["cost_limit"]
    returns, costs = (
        chosen[name].to_numpy(dtype=float) for name in ("episode_return", "episode_cost")
    )
    return Evaluation(actions, cost_limit, returns, costs)


def check_actions(actions: str) -> None:
    """Raise a ValueError on another word than `sampled` or `mean`."""
    if actions not in ACTIONS:
        raise ValueError(f"actions must be {' or '.join(ACTIONS)}, got {actions!r}")


def make_actor(
    run: str | Path, name: str, actions: str, noise_seed: int
) -> Callable[[Array], Array]:
    """How a stored policy acts: from observations [num_envs, obs_dim] to actions.

    Args:
        run: the run's folder.
        name: file of the policy in it.
        actions: `sampled` from the policy, or its `mean`.
        noise_seed: seed of the samples.

    Raises:
        ValueError: on another word for the actions, or if there is no readable policy.
    """
    check_actions(actions)
    policy, normaliser, _ = load_policy(run, name)
    noise = torch.Generator().manual_seed(noise_seed)

    @torch.no_grad()
    def act(obs: Array) -> Array:
        distribution = policy(torch.from_numpy(normaliser(obs)))
        chosen = distribution.sample(noise) if actions == "sampled" else distribution.mean
        array: Array = chosen.double().numpy()
        return array

    return act


def play(env: VecEnv, act: Callable[[Array], Array], rounds: int) -> Array:
    """[num_envs, rounds, 2] return and cost of the first episodes of every environment."""
    totals = np.zeros((env.num_envs, 2))
    finished: list[list[Array]] = [[] for _ in range(env.num_envs)]
    obs = env.reset()
    bar = tqdm(total=rounds * env.num_envs, unit="episode", leave=False, delay=2, disable=None)
    with one_torch_thread(), bar:
        while min(len(of_env) for of_env in finished) < rounds:
            result = env.step(act(obs))
            obs = result.obs
            totals += np.stack([result.reward, result.cost], axis=1)
            if not (np.isfinite(obs).all() and np.isfinite(totals).all()):
                raise FloatingPointError(f"{env.env_id} returned a number that is not finite")
            for i in np.flatnonzero(result.terminated | result.truncated):
                finished[i].append(totals[i].copy())
                totals[i] = 0.0
                bar.update()
    return np.array([of_env[:rounds] for of_env in finished])
