"""What independent estimates have in common, against truths and noises that are known."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from kfcpo_lib import TrainConfig, train
from kfcpo_lib.__main__ import main
from kfcpo_lib.benchmarks.noise import row
from kfcpo_lib.benchmarks.results import table
from kfcpo_lib.gradient_noise import (
    Estimates,
    at_rest,
    clarity,
    common,
    cosine_of_truths,
    mean_cosine,
    products,
    pull,
)

FISHER = torch.diag(torch.tensor([4.0, 1.0, 0.25]).repeat(10)).double()


def estimates(truth: Tensor, noise: float, count: int = 2_000, seed: int = 0) -> Estimates:
    """Directions around a true one [P], each with noise of this length in the Fisher metric."""
    random = torch.Generator().manual_seed(seed)
    white = torch.randn(count, len(truth), generator=random, dtype=torch.float64)
    spread = noise / math.sqrt(len(truth)) / FISHER.diagonal().sqrt()
    directions = truth + spread * white
    return Estimates(directions @ FISHER, directions)


def unit(*start: float) -> Tensor:
    """A direction of length 1 in the Fisher metric that begins like this."""
    direction = torch.zeros(len(FISHER), dtype=torch.float64)
    direction[: len(start)] = torch.tensor(start, dtype=torch.float64)
    return direction / (direction @ FISHER @ direction).sqrt()


def test_products_are_those_of_the_fisher_metric_and_common_leaves_the_own_ones_out() -> None:
    first, second = estimates(unit(1.0), 1.0, 4), estimates(unit(0.0, 1.0), 1.0, 4, seed=1)
    found = products(first, second)
    pairs = [(i, j) for i in range(4) for j in range(4)]
    for i, j in pairs:
        expected = first.directions[i] @ FISHER @ second.directions[j]
        assert found[i, j] == pytest.approx(float(expected))
    others = [float(found[i, j]) for i, j in pairs if i != j]
    assert common(found) == pytest.approx(sum(others) / 12)


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_clarity_is_the_cosine_to_the_truth(noise: float) -> None:
    some = estimates(unit(1.0, -2.0), noise)
    own = products(some, some).diagonal().sqrt()
    cosines = some.gradients @ unit(1.0, -2.0) / own
    assert clarity(some) == pytest.approx(1 / math.sqrt(1 + noise**2), abs=0.02)
    assert clarity(some) == pytest.approx(float(cosines.mean()), abs=0.02)


def test_estimates_without_a_truth_have_no_clarity() -> None:
    nothing = estimates(torch.zeros(len(FISHER), dtype=torch.float64), 1.0, seed=3)
    assert clarity(nothing) < 0.02
    few = Estimates(torch.eye(2) * torch.tensor([1.0, -1.0]), torch.ones(2, 2))
    assert clarity(few._replace(directions=few.gradients)) == 0.0
    assert math.isnan(cosine_of_truths(*[few._replace(directions=few.gradients)] * 2))


def test_two_truths_that_are_both_lost_have_no_cosine() -> None:
    """<m, m> is found to be -1 and -4: their product is positive all the same."""
    lost = [size * torch.tensor([[1.0, 0.0], [-1.0, 0.0]]) for size in (1.0, 2.0)]
    assert math.isnan(cosine_of_truths(*[Estimates(some, some) for some in lost]))


def test_zero_gradients_have_no_clarity_and_one_estimate_has_nothing_in_common() -> None:
    assert clarity(Estimates(torch.zeros(4, 3), torch.zeros(4, 3))) == 0.0
    with pytest.raises(ValueError, match=r"two estimates or more .*, got 1"):
        clarity(Estimates(torch.ones(1, 3), torch.ones(1, 3)))


def test_the_truths_conflict_is_seen_through_noise_that_hides_it_in_an_epoch() -> None:
    first, second = unit(1.0), unit(-0.8, 1.2)
    true = float(first @ FISHER @ second)
    noisy = [estimates(truth, 3.0, seed=i) for i, truth in enumerate((first, second))]
    assert true < -0.7
    assert cosine_of_truths(noisy[0], noisy[1]) == pytest.approx(true, abs=0.05)
    assert mean_cosine(noisy[0], noisy[1]) == pytest.approx(true / 10, abs=0.02)


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_a_step_of_length_one_pulls_by_what_its_noise_leaves(noise: float) -> None:
    step, gradient = 2.0 * unit(1.0), 5.0 * unit(0.6, 1.6)
    one = step / 2.0
    expected = float(gradient @ FISHER @ one) / math.sqrt(1 + (noise / 2.0) ** 2)
    objective = estimates(gradient, 1.0, seed=1)
    assert pull(estimates(step, noise), objective) == pytest.approx(expected, abs=0.1)
    assert expected > 1.0
    assert pull(Estimates(torch.zeros(4, 3), torch.zeros(4, 3)), objective) == 0.0


def test_a_pull_of_an_objective_on_itself_leaves_the_noise_out_of_the_truth() -> None:
    some = estimates(unit(2.0), 1.0, count=8)
    own = products(some, some)
    assert pull(some, some) == pytest.approx(common(own) / math.sqrt(float(own.diagonal().mean())))
    assert pull(some, some) < 0.97 * float(own.mean()) / math.sqrt(float(own.diagonal().mean()))


def test_the_table_has_changes_in_thousandths_and_a_falling_cost_is_negative() -> None:
    reward, cost = estimates(0.1 * unit(1.0), 0.0, 3), estimates(0.2 * unit(-0.5, 1.0), 0.0, 3)
    found = row(0.95, reward, cost, reward, cost)
    inner = float((0.1 * unit(1.0)) @ FISHER @ (0.2 * unit(-0.5, 1.0)))
    assert found["reward's pull on the reward"] == pytest.approx(100.0)
    assert found["cost's pull on the cost"] == pytest.approx(-200.0)
    assert found["cost's pull on the reward"] == pytest.approx(1_000 * inner / 0.2, abs=1e-3)
    assert found["reward's pull on the cost"] == pytest.approx(-1_000 * inner / 0.1, abs=1e-3)
    assert inner < 0


def test_at_rest_the_cost_stands_still_and_the_reward_gains_what_is_left() -> None:
    pulls = {"reward_on_reward": 30.0, "reward_on_cost": 8.0, "cost_on_reward": -5.0}
    weight, gain = at_rest(**pulls, cost_on_cost=-2.0)
    assert weight == pytest.approx(0.8)
    assert (1 - weight) * 8.0 + weight * -2.0 == pytest.approx(0.0)
    assert gain == pytest.approx(0.2 * 30.0 - 0.8 * 5.0)
    assert at_rest(**pulls | {"reward_on_cost": -1.0}, cost_on_cost=-2.0) == (0.0, 30.0)
    assert all(math.isnan(number) for number in at_rest(**pulls, cost_on_cost=0.5))


def test_the_benchmark_measures_a_stored_run_and_leaves_it_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = TrainConfig(
        env_id="PointMass-v0", total_steps=4_000, steps_per_epoch=4_000, run_dir=str(run)
    )
    list(train(config))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["bench", "noise", str(run), "--epochs", "4", "--out", str(tmp_path)]) in (0, None)
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    printed = capsys.readouterr().out
    assert "cost's clarity" in printed and (tmp_path / "noise.json").is_file()
    for told in json.loads((tmp_path / "noise.json").read_text())["rows"]:
        whole = pd.read_csv(run / "episodes.csv")["episode_return"].mean()
        assert told["return"] == pytest.approx(whole, abs=2.0)  # an episode's, not an epoch's
    assert table([{"lambda": 0.95}]).split()[-1] in printed
