"""From acting to learning data: rollouts, advantages, finished episodes."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kfcpo_lib.envs.interface import Array, StepResult, VecEnv
from kfcpo_lib.networks import plain_forward
from kfcpo_lib.policies import Critics, GaussianPolicy, ObservationNormaliser
from kfcpo_lib.records import Episode


@dataclass
class Rollout:
    """What the environments and the policy did in one epoch, [time, env, ...]."""

    raw_obs: Array
    """[T, N, obs_dim] as the environments gave them."""
    obs: NDArray[np.float32]
    """[T, N, obs_dim] normalised, as the policy saw them."""
    next_obs: NDArray[np.float32]
    """[T, N, obs_dim] normalised; where an episode ended, its last observation."""
    actions: NDArray[np.float32]
    reward: Array
    cost: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @classmethod
    def empty(cls, steps: int, env: VecEnv) -> "Rollout":
        """Room for `steps` steps of every environment."""
        shape = (steps, env.num_envs)
        raw_obs = np.zeros((*shape, env.obs_dim))
        obs = raw_obs.astype(np.float32)
        actions = np.zeros((*shape, env.act_dim), dtype=np.float32)
        reward, ended = np.zeros(shape), np.zeros(shape, dtype=bool)
        copies = reward.copy(), ended.copy()
        return cls(raw_obs, obs, obs.copy(), actions, reward, copies[0], ended, copies[1])

    @property
    def nonfinite(self) -> int:
        """How many numbers of observations, rewards and costs are not finite.

        An observation's count twice if a step leads to it and another one starts from it.
        """
        watched = (self.raw_obs, self.next_obs, self.reward, self.cost)
        return sum(int(np.count_nonzero(~np.isfinite(array))) for array in watched)


@dataclass
class Batch:
    """An epoch's data as flat tensors, one row a step, for an update rule and the critics."""

    obs: Tensor
    """[B, obs_dim] normalised."""
    actions: Tensor
    """[B, act_dim] before the simulator clips them."""
    log_prob: Tensor
    """[B] of the actions under the policy that collected them."""
    advantage_reward: Tensor
    """[B] standardised: mean 0, standard deviation 1."""
    advantage_cost: Tensor
    """[B] centred, in cost per step: never divided by its standard deviation."""
    target_reward: Tensor
    """[B] what the reward critic should say."""
    target_cost: Tensor
    """[B] what the cost critic should say."""
    episode_length: float
    """Mean length of an episode in steps: what one step's cost is multiplied by in an episode."""

    def __len__(self) -> int:
        return len(self.obs)

    def rows(self, index: Tensor) -> "Batch":
        """Some of the steps."""
        rows = {
            f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "episode_length"
        }
        return replace(self, **rows)


def minibatches(
    size: int, minibatch: int, generator: torch.Generator, passes: int = 1
) -> Iterator[Tensor]:
    """Random disjoint index sets that cover 0 .. size - 1, each of at most `minibatch`.

    Their sizes are equal up to one, since a small rest would be mostly noise: of 1,001 rows and
    minibatches of 1,000 they are 501 and 500. Every pass draws a new order.
    """
    parts = math.ceil(size / minibatch)
    for _ in range(passes):
        yield from torch.randperm(size, generator=generator).tensor_split(parts)


@torch.no_grad()
def collect(
    env: VecEnv,
    policy: GaussianPolicy,
    normaliser: ObservationNormaliser,
    obs: Array,
    steps: int,
    episodes: "EpisodeTracker",
    generator: torch.Generator,
) -> tuple[Rollout, Array]:
    """Act for `steps` steps of every environment from the observations `obs` [N, obs_dim].

    Returns:
        The rollout, and the raw observations [N, obs_dim] to go on from.

    Raises:
        FloatingPointError: if an observation is NaN or an action is not finite; names which. An
            infinite observation is counted, see `Rollout.nonfinite`.
    """
    rollout = Rollout.empty(steps, env)
    seen = normaliser(obs)
    noise = torch.randn(steps, env.num_envs, env.act_dim, generator=generator)
    std, mean_of = policy.log_std.exp().cpu(), plain_forward(policy.mean_net)
    for t in range(steps):
        mean = mean_of(torch.from_numpy(seen).to(policy.log_std.device)).cpu()
        actions = (mean + std * noise[t]).numpy()
        if not np.isfinite(actions).all():
            raise FloatingPointError(_who_is_not_finite(env, seen, actions, episodes.env_steps))
        rollout.raw_obs[t], rollout.obs[t], rollout.actions[t] = obs, seen, actions
        result = env.step(actions.astype(np.float64))
        following = normaliser(result.obs)
        rollout.next_obs[t] = _last_seen(result, following, normaliser)
        rollout.reward[t], rollout.cost[t] = result.reward, result.cost
        rollout.terminated[t], rollout.truncated[t] = result.terminated, result.truncated
        episodes.step(result)
        obs, seen = result.obs, following
    return rollout, obs


def _who_is_not_finite(
    env: VecEnv, seen: NDArray[np.float32], actions: NDArray[np.float32], env_steps: int
) -> str:
    where = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
    if np.isfinite(seen[where]).all():
        return f"the policy returned the action {actions[where]} at step {env_steps}: not finite"
    return (
        f"environment {where} of {env.env_id} returned an observation that is not finite "
        f"at step {env_steps}: {seen[where]}"
    )


def _last_seen(
    result: StepResult, following: NDArray[np.float32], normaliser: ObservationNormaliser
) -> NDArray[np.float32]:
    """What each step led to, normalised: the final observation where an episode ended.

    What is not finite becomes NaN, so that clipping does not hide an infinite number.
    """
    led_to = following.copy()
    ended = result.terminated | result.truncated
    if ended.any():
        led_to[ended] = normaliser(result.final_obs[ended])
    led_to[~np.isfinite(result.final_obs)] = np.nan
    return led_to


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    discount: float,
    gae_lambda: float,
) -> Array:
    """Generalised advantage estimation (Schulman et al. 2016), all arrays [T, N].

    delta_t = r_t + gamma V(s_t+1) - V(s_t) and A_t = delta_t + gamma lambda A_t+1. A terminated
    episode has no future: V(s_t+1) counts as 0. A truncated one has: its V(s_t+1) is asked at
    its last observation. Neither lets A_t+1 of the next episode flow back.
    """
    advantage = np.empty_like(reward)
    running = np.zeros(reward.shape[1])
    delta = reward + discount * next_value * ~terminated - value
    goes_on = ~(terminated | truncated)
    for t in reversed(range(len(reward))):
        running = delta[t] + discount * gae_lambda * goes_on[t] * running
        advantage[t] = running
    return advantage


@torch.no_grad()
def make_batch(
    rollout: Rollout,
    policy: GaussianPolicy,
    critics: Critics,
    discount: float,
    gae_lambda: float,
    episode_length: float,
    cost_gae_lambda: float | None = None,
) -> Batch:
    """Advantages, targets and log-probabilities of a rollout, flattened to [T * N, ...].

    `cost_gae_lambda` is the cost advantage's own lambda; None: `gae_lambda`, as of all the rest.
    """
    device = policy.log_std.device
    obs = torch.from_numpy(rollout.obs).to(device)
    values = [value.double().cpu().numpy() for value in critics(obs)]
    next_obs = torch.from_numpy(rollout.next_obs).to(device)
    next_values = [value.double().cpu().numpy() for value in critics(next_obs)]
    ends = rollout.terminated, rollout.truncated
    signals = rollout.reward, rollout.cost
    advantages = [
        gae(signal, value, next_value, *ends, discount, gae_lambda)
        for signal, value, next_value in zip(signals, values, next_values, strict=True)
    ]
    targets = [a + v for a, v in zip(advantages, values, strict=True)]
    if cost_gae_lambda is not None:
        advantages[1] = gae(
            rollout.cost, values[1], next_values[1], *ends, discount, cost_gae_lambda
        )
    advantage_reward = (advantages[0] - advantages[0].mean()) / (advantages[0].std() + 1e-8)
    advantage_cost = advantages[1] - advantages[1].mean()
    flat_obs = obs.flatten(0, 1)
    actions = torch.from_numpy(rollout.actions).to(device).flatten(0, 1)

    def column(numbers: Array) -> Tensor:
        return torch.from_numpy(numbers.astype(np.float32)).to(device).flatten()

    return Batch(
        obs=flat_obs,
        actions=actions,
        log_prob=policy(flat_obs).log_prob(actions),
        advantage_reward=column(advantage_reward),
        advantage_cost=column(advantage_cost),
        target_reward=column(targets[0]),
        target_cost=column(targets[1]),
        episode_length=episode_length,
    )


@dataclass
class EpisodeTracker:
    """Return, cost and length of the running episodes, and the last W finished whole ones.

    Shortened first episodes (staggered starts) are watched but never counted.
    """

    num_envs: int
    window: int
    whole_length: int
    env_steps: int = 0
    finished: list[Episode] = field(default_factory=list)
    """Whole episodes since the list was last taken."""

    def __post_init__(self) -> None:
        self.running = np.zeros((3, self.num_envs))
        self.shortened = np.zeros(self.num_envs, dtype=bool)
        self.recent_costs: deque[float] = deque(maxlen=self.window)
        self.recent_lengths: deque[float] = deque(maxlen=self.window)

    def start(self, stagger: bool) -> None:
        """All environments have just been reset."""
        self.running[:] = 0.0
        self.shortened[:] = stagger

    def step(self, result: StepResult) -> None:
        """Count one step of every environment."""
        self.env_steps += self.num_envs
        self.running[0] += result.reward
        self.running[1] += result.cost
        self.running[2] += 1
        ended = result.terminated | result.truncated
        for i in np.flatnonzero(ended):
            episode_return, cost, length = (float(number) for number in self.running[:, i])
            whole = not self.shortened[i] or length >= self.whole_length
            if whole and np.isfinite(episode_return) and np.isfinite(cost):
                self.finished.append(Episode(self.env_steps, episode_return, cost, int(length)))
                self.recent_costs.append(cost)
                self.recent_lengths.append(length)
            self.running[:, i] = 0.0
            self.shortened[i] = False

    def take_finished(self) -> tuple[Episode, ...]:
        """The whole episodes that ended since the last call."""
        finished, self.finished = tuple(self.finished), []
        return finished

    @property
    def episodic_cost(self) -> float | None:
        """c_ep: mean cost of the last W whole episodes; None before the first has ended."""
        return float(np.mean(self.recent_costs)) if self.recent_costs else None

    @property
    def episode_length(self) -> float:
        """Mean length of the last W whole episodes; a whole length before the first has ended."""
        return float(np.mean(self.recent_lengths)) if self.recent_lengths else self.whole_length

    def state_dict(self) -> dict[str, Any]:
        """Everything but the settings, as arrays and numbers."""
        return {
            "env_steps": self.env_steps,
            "running": self.running.copy(),
            "shortened": self.shortened.copy(),
            "recent_costs": list(self.recent_costs),
            "recent_lengths": list(self.recent_lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.env_steps = state["env_steps"]
        self.running, self.shortened = state["running"].copy(), state["shortened"].copy()
        self.recent_costs = deque(state["recent_costs"], maxlen=self.window)
        self.recent_lengths = deque(state["recent_lengths"], maxlen=self.window)
