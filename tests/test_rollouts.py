"""From acting to learning data: advantages, batches, collecting, finished episodes."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from kfcpo_lib.envs.interface import Array, StepResult
from kfcpo_lib.policies import Critics, GaussianPolicy, ObservationNormaliser
from kfcpo_lib.rollouts import EpisodeTracker, Rollout, collect, gae, make_batch, minibatches

Flags = NDArray[np.bool_]


def naive_advantage(
    reward: Array, value: Array, next_value: Array, terminated: Flags, truncated: Flags,
    discount: float, gae_lambda: float,
) -> Array:  # fmt: skip
    """A_t = sum_l (gamma lambda)^l delta_t+l, each sum written out to its episode's end: O(T^2)."""
    steps, envs = reward.shape
    advantage = np.zeros((steps, envs))
    for i in range(envs):
        for t in range(steps):
            for later in range(t, steps):
                future = 0.0 if terminated[later, i] else next_value[later, i]
                delta = reward[later, i] + discount * future - value[later, i]
                advantage[t, i] += (discount * gae_lambda) ** (later - t) * delta
                if terminated[later, i] or truncated[later, i]:
                    break
    return advantage


def random_signals(seed: int, steps: int, envs: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(steps, envs)) for _ in range(3)]


def random_ends(seed: int, steps: int, envs: int, rate: float) -> list[Flags]:
    random = np.random.default_rng(seed + 1)
    return [random.random((steps, envs)) < rate for _ in range(2)]


@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.9, 0.99]),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_gae_is_the_naive_double_loop(
    seed: int, steps: int, envs: int, rate: float, discount: float, gae_lambda: float
) -> None:
    """Terminations, truncations, both at once, and episodes cut by the end of the data."""
    signals, ends = random_signals(seed, steps, envs), random_ends(seed, steps, envs, rate)
    fast = gae(*signals, *ends, discount, gae_lambda)
    naive = naive_advantage(*signals, *ends, discount, gae_lambda)
    np.testing.assert_allclose(fast, naive, rtol=1e-12, atol=1e-12)


def test_gae_by_hand() -> None:
    """gamma = lambda = 1/2; environment 0 terminates, 1 truncates, 2 goes on, after step 0."""
    reward = np.array([[1.0, 1, 1], [2, 2, 2]])
    value = np.array([[10.0, 10, 10], [20, 20, 20]])
    next_value = np.array([[100.0, 100, 20], [40, 40, 40]])
    terminated = np.array([[True, False, False], [False, False, False]])
    truncated = np.array([[False, True, False], [False, False, False]])
    last = 2 + 0.5 * 40 - 20  # the end of the data: bootstrapped
    expected = [[1 - 10, 1 + 50 - 10, 1 + 10 - 10 + 0.25 * last], [last] * 3]
    assert gae(reward, value, next_value, terminated, truncated, 0.5, 0.5).tolist() == expected


def test_gae_extremes_are_one_step_and_whole_returns() -> None:
    (reward, value, next_value), none = random_signals(0, 6, 1), np.zeros((6, 1), dtype=bool)
    next_value[:-1] = value[1:]
    one_step = gae(reward, value, next_value, none, none, 0.9, 0.0)
    np.testing.assert_allclose(one_step, reward + 0.9 * next_value - value)
    whole = gae(reward, value, next_value, none, none, 0.9, 1.0)
    returns = sum(0.9**t * reward[t, 0] for t in range(6)) + 0.9**6 * next_value[-1, 0]
    assert whole[0, 0] == pytest.approx(returns - value[0, 0])


# ---------------------------------------------------------------------------- a scripted world


class ScriptedEnv:
    """Observations are counters: environment i's t-th is 100 i + t, its final ones 1000 more.

    Every step is written into the same arrays, as a fast environment might do.
    """

    env_id, obs_dim, act_dim, max_episode_steps, simulator_errors = "Scripted-v0", 2, 1, 4, 0

    def __init__(self, terminated: Flags, truncated: Flags) -> None:
        self.script = terminated, truncated
        self.num_envs = terminated.shape[1]
        self.t = 0
        self.obs, self.final_obs = (np.zeros((self.num_envs, 2)) for _ in range(2))
        self.reward, self.cost = np.zeros(self.num_envs), np.zeros(self.num_envs)
        self.poison: dict[int, tuple[str, float]] = {}
        self.seen_actions: list[Array] = []

    def reset(self, *, stagger: bool = False) -> Array:
        self._write()
        return self.obs

    def _write(self) -> None:
        self.obs[:, 0] = 100 * np.arange(self.num_envs) + self.t
        self.obs[:, 1] = -self.obs[:, 0]

    def step(self, actions: Array) -> StepResult:
        self.seen_actions.append(actions.copy())
        terminated, truncated = (flags[self.t] for flags in self.script)
        self.t += 1
        self._write()
        self.final_obs[:] = self.obs
        self.final_obs[terminated | truncated] += 1000
        self.reward[:] = self.t
        self.cost[:] = terminated
        if self.t in self.poison:
            name, number = self.poison[self.t]
            getattr(self, name)[0] = number
        ends = terminated.copy(), truncated.copy()
        return StepResult(self.obs, self.reward, self.cost, *ends, self.final_obs)


STEPS, ENVS = 6, 3
ENDS = np.zeros((2, STEPS, ENVS), dtype=bool)
ENDS[0, 1, 0] = ENDS[1, 2, 1] = ENDS[0, 4, 1] = True


def fitted_normaliser() -> ObservationNormaliser:
    normaliser = ObservationNormaliser(2, clip=4.0)
    normaliser.update(np.random.default_rng(0).normal((100, -100), (60, 300), size=(200, 2)))
    return normaliser


def collected(
    poison: dict[int, tuple[str, float]] | None = None, noise_seed: int = 0
) -> tuple[ScriptedEnv, Rollout, Array, EpisodeTracker, GaussianPolicy]:
    env = ScriptedEnv(*ENDS)
    env.poison = poison or {}
    policy = GaussianPolicy(2, 1, (4,), generator=torch.Generator().manual_seed(0))
    episodes = EpisodeTracker(ENVS, 10, env.max_episode_steps)
    episodes.start(stagger=False)
    generator = torch.Generator().manual_seed(noise_seed)
    rollout, obs = collect(
        env, policy, fitted_normaliser(), env.reset(), STEPS, episodes, generator
    )
    return env, rollout, obs, episodes, policy


def test_collect_records_what_was_seen_done_and_earned() -> None:
    env, rollout, obs, episodes, policy = collected()
    first = 100 * np.arange(ENVS) + np.arange(STEPS)[:, None]
    raw = np.stack([first, -first], axis=-1)
    np.testing.assert_array_equal(rollout.raw_obs, raw)
    np.testing.assert_array_equal(rollout.obs, fitted_normaliser()(raw.astype(float)))
    np.testing.assert_array_equal(obs[:, 0], 100 * np.arange(ENVS) + STEPS)
    np.testing.assert_array_equal(rollout.reward, np.repeat(np.arange(1, 7)[:, None], 3, axis=1))
    np.testing.assert_array_equal(rollout.cost, ENDS[0])
    np.testing.assert_array_equal(rollout.terminated, ENDS[0])
    np.testing.assert_array_equal(rollout.truncated, ENDS[1])
    np.testing.assert_array_equal(np.array(env.seen_actions), rollout.actions.astype(float))
    assert rollout.nonfinite == 0
    assert episodes.env_steps == STEPS * ENVS
    # z = (a - mu) / sigma are the generator's numbers, in the order of the steps
    mean = policy(torch.from_numpy(rollout.obs)).mean.detach().numpy()
    noise = torch.randn(STEPS, ENVS, 1, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(rollout.actions, mean + math.exp(-0.5) * noise, rtol=1e-5, atol=1e-6)


def test_next_observations_are_the_normalised_final_ones_where_an_episode_ended() -> None:
    _, rollout, _, _, _ = collected()
    following = 100.0 * np.arange(ENVS) + np.arange(1, STEPS + 1)[:, None]
    raw = np.stack([following, -following], axis=-1)
    raw[ENDS.any(axis=0)] += 1000
    np.testing.assert_array_equal(rollout.next_obs, fitted_normaliser()(raw))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reward", "cost"])
def test_rewards_and_costs_that_are_not_finite_are_counted(name: str, number: float) -> None:
    assert collected({3: (name, number)})[1].nonfinite == 1


@pytest.mark.parametrize("number", [math.inf, -math.inf])
@pytest.mark.parametrize("step", [2, STEPS])
def test_infinite_final_observations_are_not_hidden_by_clipping(step: int, number: float) -> None:
    """Step 2 ends an episode of environment 0; the last step's observation is bootstrapped."""
    assert collected({step: ("final_obs", number)})[1].nonfinite == 2  # two components


def test_an_observation_that_is_not_a_number_is_refused_by_name() -> None:
    with pytest.raises(FloatingPointError, match=r"environment 0 of Scripted-v0.*at step 9"):
        collected({3: ("obs", math.nan)})


def test_a_policy_that_returns_nan_is_refused_by_its_action() -> None:
    env = ScriptedEnv(*ENDS)
    policy = GaussianPolicy(2, 1, (4,))
    with torch.no_grad():
        policy.log_std.fill_(math.nan)
    tracker = EpisodeTracker(ENVS, 10, 4)
    generator = torch.Generator()
    with pytest.raises(FloatingPointError, match=r"policy returned the action \[nan\] at step 0"):
        collect(env, policy, fitted_normaliser(), env.reset(), STEPS, tracker, generator)
    assert not env.seen_actions


# ------------------------------------------------------------------------------------- the batch


class SpyCritics(Critics):
    """Values by formula: reward 2 x + y, cost x - y, of the observation (x, y); remembers asks."""

    def __init__(self) -> None:
        super().__init__(2, (1,))
        self.asked: list[Tensor] = []

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(obs.clone())
        return 2 * obs[..., 0] + obs[..., 1], obs[..., 0] - obs[..., 1]


def test_batch_holds_advantages_and_targets_bootstrapped_at_the_normalised_final_observation() -> (
    None
):
    _, rollout, _, _, policy = collected()
    spy = SpyCritics()
    batch = make_batch(rollout, policy, spy, 0.9, 0.8, episode_length=4.0)
    assert [tuple(asked.shape) for asked in spy.asked] == [(STEPS, ENVS, 2)] * 2
    np.testing.assert_array_equal(spy.asked[1].numpy(), rollout.next_obs)
    x, y = rollout.obs[..., 0].astype(float), rollout.obs[..., 1].astype(float)
    next_x, next_y = rollout.next_obs[..., 0].astype(float), rollout.next_obs[..., 1].astype(float)
    of_reward = naive_advantage(rollout.reward, 2 * x + y, 2 * next_x + next_y, *ENDS, 0.9, 0.8)
    of_cost = naive_advantage(rollout.cost, x - y, next_x - next_y, *ENDS, 0.9, 0.8)
    # Values and results pass single precision once: 1e-6 of numbers below 20.
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(batch.target_reward, (of_reward + 2 * x + y).ravel(), **close)
    np.testing.assert_allclose(batch.target_cost, (of_cost + x - y).ravel(), **close)
    standardised = (of_reward - of_reward.mean()) / of_reward.std()
    np.testing.assert_allclose(batch.advantage_reward, standardised.ravel(), **close)
    centred = of_cost - of_cost.mean()
    np.testing.assert_allclose(batch.advantage_cost, centred.ravel(), **close)
    assert batch.episode_length == 4.0
    assert len(batch) == STEPS * ENVS


def test_the_cost_can_look_ahead_less_far_than_the_reward() -> None:
    _, rollout, _, _, policy = collected()
    same, shorter = (
        make_batch(rollout, policy, SpyCritics(), 0.9, 0.8, 4.0, share) for share in (None, 0.3)
    )
    assert torch.equal(same.advantage_reward, shorter.advantage_reward)
    assert torch.equal(same.target_reward, shorter.target_reward)
    assert torch.equal(same.target_cost, shorter.target_cost)
    of_cost = make_batch(rollout, policy, SpyCritics(), 0.9, 0.3, 4.0)
    assert torch.equal(of_cost.advantage_cost, shorter.advantage_cost)
    assert not torch.allclose(same.advantage_cost, shorter.advantage_cost)


def test_batch_rows_belong_together_and_log_probs_are_the_collecting_policys() -> None:
    _, rollout, _, _, policy = collected()
    batch = make_batch(rollout, policy, SpyCritics(), 0.9, 0.8, 4.0)
    np.testing.assert_array_equal(batch.obs.numpy(), rollout.obs.reshape(-1, 2))
    np.testing.assert_array_equal(batch.actions.numpy(), rollout.actions.reshape(-1, 1))
    expected = policy(batch.obs).log_prob(batch.actions).detach()
    torch.testing.assert_close(batch.log_prob, expected)
    index = torch.tensor([7, 2])
    some = batch.rows(index)
    for name in ("obs", "actions", "log_prob", "advantage_reward", "advantage_cost",
                 "target_reward", "target_cost"):  # fmt: skip
        assert torch.equal(getattr(some, name), getattr(batch, name)[index])
        assert not getattr(batch, name).requires_grad
    assert some.episode_length == 4.0
    assert len(some) == 2


def test_equal_rewards_do_not_divide_by_zero() -> None:
    _, rollout, _, _, policy = collected()
    rollout.reward[:] = 0.0
    critics = SpyCritics()
    critics.forward = lambda obs: (0 * obs[..., 0], 0 * obs[..., 0])  # type: ignore[method-assign]
    batch = make_batch(rollout, policy, critics, 0.9, 0.8, 4.0)
    assert (batch.advantage_reward == 0).all()


@given(st.integers(1, 200), st.integers(1, 250), st.integers(0, 100))
def test_minibatches_are_disjoint_and_cover(size: int, minibatch: int, seed: int) -> None:
    parts = list(minibatches(size, minibatch, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(parts).tolist()) == list(range(size))
    lengths = [len(part) for part in parts]
    assert max(lengths) <= minibatch and max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-size // minibatch)


def test_minibatches_are_drawn_anew_from_the_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(minibatches(50, 7, generator))) for _ in range(2))
    again = torch.cat(list(minibatches(50, 7, torch.Generator().manual_seed(0))))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, torch.arange(50))


# ------------------------------------------------------------------------------ finished episodes


def stream(
    costs: list[list[float]], ends: list[list[int]], *, terminate: bool = False
) -> Iterator[StepResult]:
    """Steps of as many environments as `costs` has columns, each with reward 1."""
    for cost, end in zip(costs, ends, strict=True):
        ended, none = np.array(end, dtype=bool), np.zeros(len(end), dtype=bool)
        obs = np.zeros((len(end), 1))
        flags = (ended, none) if terminate else (none, ended)
        yield StepResult(obs, np.ones(len(end)), np.array(cost), *flags, obs)


def tracker_after(steps: Iterator[StepResult], **settings: int) -> EpisodeTracker:
    tracker = EpisodeTracker(**({"num_envs": 1, "window": 2, "whole_length": 3} | settings))
    tracker.start(stagger=False)
    for result in steps:
        tracker.step(result)
    return tracker


def test_before_the_first_episode_has_ended_its_cost_is_unknown() -> None:
    tracker = tracker_after(stream([[1.0], [1.0]], [[0], [0]]))
    assert tracker.episodic_cost is None
    assert tracker.episode_length == 3
    assert tracker.take_finished() == ()
    assert tracker.env_steps == 2


@pytest.mark.parametrize("terminate", [False, True])
def test_one_finished_episode_counts_undiscounted(terminate: bool) -> None:
    steps = stream([[1.0], [0.0], [1.0], [5.0]], [[0], [0], [1], [0]], terminate=terminate)
    tracker = tracker_after(steps)
    assert tracker.episodic_cost == 2.0
    assert tracker.episode_length == 3.0
    (episode,) = tracker.take_finished()
    assert (episode.env_steps, episode.episode_return) == (3, 3.0)
    assert (episode.episode_cost, episode.length) == (2.0, 3)
    assert tracker.take_finished() == ()
    assert tracker.episodic_cost == 2.0  # taking the list empties no window


def test_only_the_last_w_episodes_count() -> None:
    """Episodes of one step with costs 1, 2, ..., 5 and W = 2; then one of two steps."""
    tracker = tracker_after(stream([[1.0], [2.0], [3.0], [4.0], [5.0]], [[1]] * 5))
    assert tracker.episodic_cost == 4.5
    for result in stream([[3.0], [4.0]], [[0], [1]]):
        tracker.step(result)
    assert tracker.episodic_cost == 6.0
    assert tracker.episode_length == 1.5
    assert [e.episode_cost for e in tracker.take_finished()] == [1, 2, 3, 4, 5, 7]


def test_environments_do_not_mix() -> None:
    steps = stream([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], [[0, 1], [1, 0], [0, 1]])
    tracker = tracker_after(steps, num_envs=2, window=10)
    episodes = tracker.take_finished()
    assert [e.episode_cost for e in episodes] == [10.0, 3.0, 50.0]
    assert [e.length for e in episodes] == [1, 2, 2]
    assert [e.env_steps for e in episodes] == [2, 4, 6]
    assert tracker.running[1].tolist() == [3.0, 0.0]


def test_shortened_first_episodes_do_not_count_but_whole_ones_do() -> None:
    """Staggered starts of two environments: the second one's first episode has full length."""
    tracker = EpisodeTracker(num_envs=2, window=10, whole_length=2)
    tracker.start(stagger=True)
    for result in stream([[1.0, 2.0]] * 3, [[1, 0], [0, 1], [1, 0]]):
        tracker.step(result)
    assert [e.episode_cost for e in tracker.take_finished()] == [4.0, 2.0]
    assert tracker.episodic_cost == 3.0


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_spoilt_episode_is_left_out_and_the_next_one_is_clean(spoilt: float) -> None:
    tracker = tracker_after(stream([[spoilt], [1.0], [1.0]], [[0], [1], [1]]))
    assert tracker.episodic_cost == 1.0


def test_tracker_state_continues_to_the_same_numbers() -> None:
    tracker = tracker_after(
        stream([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[0, 1], [1, 0], [0, 0]]), num_envs=2
    )
    tracker.take_finished()
    saved = tracker.state_dict()
    twin = EpisodeTracker(2, 2, 3)
    twin.load_state_dict(saved)
    for one in (tracker, twin):
        for result in stream([[1.0, 1.0], [1.0, 1.0]], [[1, 1], [0, 1]]):
            one.step(result)
    assert twin.take_finished() == tracker.take_finished()
    assert twin.episodic_cost == tracker.episodic_cost
    assert twin.episode_length == tracker.episode_length
    assert twin.env_steps == tracker.env_steps == 10
    third = EpisodeTracker(2, 2, 3)
    third.load_state_dict(saved)  # what was saved did not move on
    assert third.env_steps == 6
    assert third.running[1].tolist() == [5.0, 10.0]
