"""Two ways of sharing, each exact at its own end; the study's numbers against the library's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kfcpo_lib import sharing_study as study
from kfcpo_lib.fisher import exact_fisher
from kfcpo_lib.kfac import KFAC


@given(st.integers(2, 5), st.floats(0.0, 0.9), st.integers(0, 1_000))
def test_each_way_is_exact_at_its_own_end(size: int, smooth: float, seed: int) -> None:
    """Linear: expand where each place has its action, reduce where all read the places' mean."""
    obs = study.pictures(30, size, smooth, seed)
    for reads, exact in zip(study.READS, ("expand", "reduce"), strict=True):
        policy = study.SharedPolicy(size, reads, "none (linear)", seed)
        assert study.blocks(policy, obs).error(exact) < 1e-9


def test_each_way_is_wrong_at_the_other_end_and_both_below_a_tanh() -> None:
    obs = study.pictures()
    for reads, wrong in zip(study.READS, ("reduce", "expand"), strict=True):
        linear = study.SharedPolicy(reads=reads, bend="none (linear)")
        assert study.blocks(linear, obs).error(wrong) > 0.1
        bent = study.blocks(study.SharedPolicy(reads=reads), obs)
        assert min(bent.error("expand"), bent.error("reduce")) > 0.02


@pytest.mark.parametrize("reads", study.READS)
def test_one_place_makes_both_ways_the_same(reads: str) -> None:
    policy, obs = study.SharedPolicy(2, reads), study.pictures(size=2)
    blocks = study.blocks(policy, obs)
    torch.testing.assert_close(blocks.expand, blocks.reduce)


def test_blocks_are_those_of_the_library() -> None:
    policy, obs = study.SharedPolicy(), study.pictures(40)
    kfac = KFAC(policy)
    kfac.update_factors(obs)
    a, g = study.expand(*study.statistics(policy, obs))
    torch.testing.assert_close(a, kfac.blocks[0].input_factor)
    torch.testing.assert_close(g, kfac.blocks[0].output_factor)
    where = torch.tensor([0, 1, 2, 3, 8, 4, 5, 6, 7, 9])  # a row of weights, its bias, the next
    exact = exact_fisher(policy, obs)[where][:, where]
    torch.testing.assert_close(study.exact_block(policy, obs), exact)
    torch.testing.assert_close(study.blocks(policy, obs).expand, kfac.dense()[where][:, where])


def test_smooth_pictures_have_pixels_that_agree() -> None:
    for smooth in (0.0, 0.5, 0.9):
        pixels = study.pictures(20_000, smooth=smooth)
        together = torch.corrcoef(pixels.T)[0, 1]
        assert float(together) == pytest.approx(smooth, abs=0.03)
