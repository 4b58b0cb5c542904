"""The depth benchmark: what is called quality is one, and K-FAC earns it."""

import pytest
import torch

from kfcpo_lib.benchmarks import depth
from kfcpo_lib.benchmarks.depth import gain, qualities


def test_gain_is_largest_along_the_natural_gradient_and_blind_to_length() -> None:
    matrix = torch.diag(torch.tensor([4.0, 1.0]))
    gradient = torch.tensor([2.0, 1.0])
    best = gain(torch.tensor([0.5, 1.0]), gradient, lambda x: matrix @ x)
    assert best == pytest.approx(2**0.5)  # sqrt(g' F^-1 g)
    assert gain(torch.tensor([5.0, 10.0]), gradient, lambda x: matrix @ x) == pytest.approx(best)
    assert gain(gradient, gradient, lambda x: matrix @ x) < best


def test_kfac_aims_better_than_the_plain_gradient_and_nothing_beats_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depth, "WIDTH", 8)
    shares = qualities(2, batch=200)
    assert all(0 < share <= 1 + 1e-9 for share in shares.values())
    assert shares["K-FAC"] > shares["plain gradient"]
    assert qualities(2, 200, iterations=100)["conjugate gradient"] == pytest.approx(1.0, abs=1e-3)
