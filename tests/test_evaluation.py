"""Evaluation: fresh episodes, sampled and mean actions, intervals that can be checked by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import SpoiltPointMass, tiny

import kfcpo_lib.evaluation
from kfcpo_lib import train
from kfcpo_lib.envs.toys import PointMassVecEnv
from kfcpo_lib.evaluation import EVALUATION_SEED, Evaluation, evaluate, load_policy
from kfcpo_lib.runs import read_policy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    list(train(tiny(folder, cost_limit=12.0)))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_an_evaluation_says_what_was_measured() -> None:
    costs = np.array([0.0, 25.0, 26.0, 49.0])
    evaluation = Evaluation("mean", 25.0, np.array([1.0, 1.0, 1.0, 1.0]), costs)
    assert evaluation.within_limit == 0.5  # at the limit is within it
    words = str(evaluation)
    assert "mean actions, 4 episodes: return 1.0 [1.0, 1.0], cost 25.0 [" in words
    assert "of 25, 50% of the episodes within the limit" in words
    single = Evaluation("mean", 25.0, np.array([1.0]), np.array([14.0]))
    words = "mean actions, 1 episode: return 1.0, cost 14.0 of 25, 100% of the episodes within the"
    assert str(single) == f"{words} limit"  # one episode says nothing of its spread


@pytest.mark.parametrize("episodes", [1, 7, 20, 23])
def test_as_many_episodes_are_played_as_asked_for(episodes: int, finished: Path) -> None:
    evaluation = evaluate(finished, episodes)
    assert evaluation.returns.shape == evaluation.costs.shape == (episodes,)
    assert evaluation.cost_limit == 12.0


def test_an_evaluation_is_reproducible_and_leaves_the_run_alone(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    torch.manual_seed(5)
    first = evaluate(run, 4)
    torch.manual_seed(6)
    second = evaluate(run, 4)
    np.testing.assert_array_equal(first.returns, second.returns)
    np.testing.assert_array_equal(first.costs, second.costs)
    assert not np.isclose(first.returns, evaluate(run, 4, seed=1).returns).any()
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_sampled_and_mean_actions_are_different_policies(finished: Path) -> None:
    sampled, mean = (evaluate(finished, 4, actions) for actions in ("sampled", "mean"))
    assert (sampled.actions, mean.actions) == ("sampled", "mean")
    assert not np.isclose(sampled.returns, mean.returns).any()


def by_hand(run: Path, num_envs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean actions, one episode per environment, from the file and nothing else."""
    stored = read_policy(run)
    env = PointMassVecEnv(num_envs, seed)
    mean, count = stored["normaliser"]["mean"].numpy(), stored["normaliser"]["count"]
    std = np.maximum(np.sqrt(stored["normaliser"]["sum_of_squares"].numpy() / count), 0.01)
    layers = [
        stored["policy"][f"mean_net.{i}.{part}"] for i in (0, 2) for part in ("weight", "bias")
    ]
    obs, totals = env.reset(), np.zeros((2, num_envs))
    for _ in range(200):
        seen = torch.from_numpy(np.clip((obs - mean) / std, -5, 5)).float()
        hidden = torch.tanh(seen @ layers[0].T + layers[1])
        obs, reward, cost, *_ = env.step((hidden @ layers[2].T + layers[3]).double().numpy())
        totals += reward, cost
    return totals[0], totals[1]


def test_an_evaluation_equals_one_written_out_by_hand(finished: Path) -> None:
    """Also: it plays in worlds whose seed no training uses."""
    evaluation = evaluate(finished, 3, "mean")
    returns, costs = by_hand(finished, 3, EVALUATION_SEED)
    np.testing.assert_allclose(evaluation.returns, returns, rtol=1e-4)
    np.testing.assert_array_equal(evaluation.costs, costs)


def test_every_environment_plays_equally_many_episodes(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to finish would be the short ones."""

    class Uneven(PointMassVecEnv):
        """Environment 0's episodes take 2 steps and return 1, environment 1's take 8 and 100."""

        def step(self, actions: Any) -> Any:
            ends = np.array([self.clock % 2 == 1, self.clock % 8 == 7])
            self.clock += 1
            result = super().step(actions)
            return result._replace(reward=np.where(ends, [1.0, 100.0], 0.0), truncated=ends)

        clock = 0

    monkeypatch.setattr(kfcpo_lib.evaluation, "MOST_ENVS", 2)
    monkeypatch.setattr(
        kfcpo_lib.evaluation, "make_vec_env", lambda _, n, seed, **__: Uneven(n, seed)
    )
    assert sorted(evaluate(finished, 6).returns) == [1.0] * 3 + [100.0] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes must be an integer of at least 1, got 0"),
        ({"episodes": 2.5}, "episodes must be an integer of at least 1, got 2.5"),
        ({"actions": "best"}, "actions must be sampled or mean, got 'best'"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": 2**32}, "seed must be an integer of at most 4294957295, got 4294967296"),
        ({"seed": 1.5}, "seed must be an integer of at least 0, got 1.5"),
        ({"seed": "a"}, "seed must be an integer of at least 0, got 'a'"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, message: str, finished: Path) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(finished, **arguments)


def spoil_the_file(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        stored = read_policy(run)
        change(stored)
        torch.save(stored, run / "policy.pt")

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda run: (run / "policy.pt").unlink(), "policy.pt does not exist"),
    "empty": (lambda run: (run / "policy.pt").write_bytes(b""), "policy.pt is damaged"),
    "foreign": (lambda run: torch.save([1], run / "policy.pt"), "is not a 'kfcpo_lib policy 1'"),
    "no sizes": (spoil_the_file(lambda s: s.pop("hidden_sizes")), "not a whole policy: KeyError"),
    "wrong sizes": (spoil_the_file(lambda s: s.update(hidden_sizes=[9])), "not a whole policy"),
    "bad sizes": (spoil_the_file(lambda s: s.update(obs_dim="x")), "not a whole policy: TypeError"),
    "nan": (spoil_the_file(lambda s: s["policy"]["log_std"].fill_(torch.nan)), "not finite"),
    "unknown world": (spoil_the_file(lambda s: s.update(env_id="Moon")), "unknown environment"),
    "no limit": (
        lambda run: (run / "config.json").write_text('{"settings": {}}'),
        "cost_limit must be a positive finite number, got None",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_run_without_a_sound_policy_is_refused(case: str, run: Path) -> None:
    spoil, message = SPOILT[case]
    spoil(run)
    with pytest.raises(ValueError, match=message):
        evaluate(run, 2)


@pytest.mark.parametrize("what", ["obs", "reward", "cost"])
def test_a_spoilt_simulator_is_named_and_closed(
    what: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class World(SpoiltPointMass):
        at = frozenset({3})

    World.what = what
    monkeypatch.setattr(
        kfcpo_lib.evaluation, "make_vec_env", lambda _, n, seed, **__: World(n, seed)
    )
    with pytest.raises(FloatingPointError, match=r"PointMass-v0 returned a number .* not finite"):
        evaluate(finished, 2)
    assert World.closed == 1


def test_a_loaded_policy_acts_as_the_trained_one(finished: Path) -> None:
    policy, normaliser, env_id = load_policy(finished)
    snapshot = load_policy(finished, "snapshots/policy_000000600.pt")[0]
    obs = torch.from_numpy(normaliser(np.ones((1, 14))))
    assert env_id == "PointMass-v0"
    assert not torch.allclose(policy(obs).mean, snapshot(obs).mean)
