"""No two seeds share a random stream, and no two purposes of one seed."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.streams import Streams
from kfcpo_lib.training import SEEDS_PER_RUN, Training

PURPOSES = [f.name for f in fields(Streams)]
seeds = st.integers(0, 2**29 - 1)


def first_numbers(generator: torch.Generator) -> tuple[int, ...]:
    """160 bits of the stream: two streams agree in them by chance once in 10^48."""
    return tuple(torch.randint(2**32, (5,), generator=generator).tolist())


def test_no_streams_of_two_thousand_seeds_begin_alike() -> None:
    """The two pairs of seeds at the end shared a stream once, when seeds were hashed."""
    many = [*range(2000), 6495, 16608, 12379, 19544]
    streams = [getattr(Streams.of_seed(seed), name) for seed in many for name in PURPOSES]
    assert len({first_numbers(stream) for stream in streams}) == len(many) * len(PURPOSES)


@given(seeds, seeds, st.sampled_from(PURPOSES), st.sampled_from(PURPOSES))
def test_different_seeds_or_purposes_differ(a: int, b: int, one: str, other: str) -> None:
    first, second = getattr(Streams.of_seed(a), one), getattr(Streams.of_seed(b), other)
    assert (first_numbers(first) == first_numbers(second)) == ((a, one) == (b, other))


def test_no_stream_is_a_shifted_copy_of_another() -> None:
    """Among the first 20,000 words of the five streams of two seeds no run of two is repeated.

    By chance: (2 x 10^5)^2 / 2 pairs of words against 2^64 possibilities, once in 10^9.
    """
    seen: set[tuple[int, int]] = set()
    for seed in (0, 1):
        for name in PURPOSES:
            stream = getattr(Streams.of_seed(seed), name)
            words = torch.randint(2**32, (20_000,), generator=stream).tolist()
            seen |= set(itertools.pairwise(words))
    assert len(seen) == 2 * len(PURPOSES) * 19_999


def test_normal_numbers_of_neighbouring_seeds_are_not_correlated() -> None:
    """1,000 numbers each: correlations have a standard deviation of 0.032; 5 of them."""
    draws = [
        torch.randn(1000, generator=getattr(Streams.of_seed(seed), name))
        for seed in range(4)
        for name in PURPOSES
    ]
    correlations = torch.corrcoef(torch.stack(draws))
    correlations.fill_diagonal_(0.0)
    assert correlations.abs().max() < 0.16
    assert torch.stack(draws).mean(1).abs().max() < 0.16


def test_one_purpose_moves_no_other() -> None:
    moved, still = Streams.of_seed(3), Streams.of_seed(3)
    torch.randn(100, generator=moved.actions)
    for name in PURPOSES:
        same = first_numbers(getattr(moved, name)) == first_numbers(getattr(still, name))
        assert same == (name != "actions")


def test_streams_continue_where_they_stood() -> None:
    streams, twin = Streams.of_seed(3), Streams.of_seed(99)
    for i, name in enumerate(PURPOSES):
        torch.randn(3 + i, generator=getattr(streams, name))
    twin.load_state_dict(streams.state_dict())
    for name in PURPOSES:
        assert first_numbers(getattr(twin, name)) == first_numbers(getattr(streams, name))


def test_environments_of_two_runs_have_disjoint_seeds() -> None:
    """Run s has the seeds 10,000 s + i, i < num_envs, and num_envs cannot exceed 10,000."""
    assert SEEDS_PER_RUN == 10_000
    config = TrainConfig(num_envs=10_000, steps_per_epoch=10_000)
    assert max(SEEDS_PER_RUN * 0 + i for i in range(config.num_envs)) < SEEDS_PER_RUN * 1
    with pytest.raises(ValueError, match=r"num_envs.*at most 10000, got 10001"):
        TrainConfig(num_envs=10_001, steps_per_epoch=10_001)


def test_the_trainer_gives_the_environments_their_own_seeds() -> None:
    def first_obs(seed: int) -> np.ndarray:
        config = TrainConfig(
            env_id="PointMass-v0", num_envs=2, steps_per_epoch=400, seed=seed, stagger=False
        )
        return Training.start(config).obs

    for seed in (0, 1, 7):
        expected = make_vec_env("PointMass-v0", 2, 10_000 * seed).reset()
        np.testing.assert_array_equal(first_obs(seed), expected)
    assert not (first_obs(0)[:, :2] == first_obs(1)[:, :2]).any()  # positions
