"""Kept sweeps: the numbers of their runs, and what intervals say of them."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from test_command_line import call
from tiny_runs import EPOCH, TINY

from kfcpo_lib.ablations import (
    CURVE_ROWS,
    KEPT,
    Kept,
    arms_of,
    best_by_mean,
    best_inside,
    compare,
    effects,
    expectation,
    grid_of,
    inside,
    keep_sweep,
    optimism,
    read_kept,
    shore_map,
    verdicts,
)
from kfcpo_lib.specs import read_spec
from kfcpo_lib.studies import learning_record, summary
from kfcpo_lib.sweeps import carry_out, jobs_of

SPECS = Path(__file__).parents[1] / "figures" / "specs"
SPEC = f"""
seeds = [3, 4]
evaluation_episodes = 2

[common]
env_id = "PointMass-v0"
num_envs = 4
steps_per_epoch = {EPOCH}
total_steps = {TINY["total_steps"]}
hidden_sizes = [8]
rule.minibatch_size = 100

[grid]
kl_limit = [0.01, 0.02]

[configurations.kfcpo]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec's file; beside it `out` with all of its runs but the last."""
    folder = tmp_path_factory.mktemp("ablation")
    spec = folder / "ablation_kl_point_mass.toml"
    spec.write_text(SPEC, encoding="utf-8")
    for job in jobs_of(read_spec(spec), folder / "out")[:-1]:
        carry_out(job)
    return spec


@pytest.fixture(scope="module")
def kept(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    keep_sweep(swept, swept.parent / "out", folder)
    [found] = read_kept("kl", folder).values()
    return found


def test_a_kept_sweep_has_the_numbers_of_its_runs(kept: Kept, swept: Path) -> None:
    assert len(kept.results) == 3
    run = swept.parent / "out" / "kfcpo_kl_limit=0.01_4"
    expected = summary(run)
    row = kept.rows(kl_limit=0.01).iloc[1]
    assert row["run"] == run.name
    for name in ("seed", "sampled_return", "sampled_cost", "rollback_share", "weight_spread"):
        assert row[name] == pytest.approx(expected[name], rel=1e-3), name
    curve = kept.curves[kept.curves["run"] == run.name]
    record = learning_record(run)
    assert len(curve) == min(CURVE_ROWS, len(record))
    for name in ("cost_weight", "delta"):
        assert curve[name].mean() == pytest.approx(record[name].mean(), rel=1e-3)
    assert kept.spec == tomllib.loads(SPEC)


def test_a_kept_sweep_says_how_many_seeds_it_has(kept: Kept) -> None:
    assert kept.seeds == "1 to 2 of 2 seeds"
    assert kept.common_seeds == 1
    assert kept.settings == ["configuration", "kl_limit"]
    assert kept.rows(kl_limit=0.02)["seed"].tolist() == [3]
    with pytest.raises(KeyError, match=r"no run with .*0\.5"):
        kept.rows(kl_limit=0.5)


def test_the_command_line_keeps_what_is_finished(swept: Path, tmp_path: Path) -> None:
    assert call(f"sweep {swept} --out {swept.parent / 'out'} --list --keep {tmp_path}") == 0
    names = {path.name for path in tmp_path.iterdir()}
    stem = "ablation_kl_point_mass"
    assert names == {f"{stem}.csv", f"{stem}_curves.csv", f"{stem}.json"}
    about = json.loads((tmp_path / f"{stem}.json").read_text("utf-8"))
    assert about.keys() == {"spec", "versions", "git_revisions"}


def test_there_is_nothing_to_keep_of_a_sweep_that_has_not_begun(
    swept: Path, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no run of .* is finished"):
        keep_sweep(swept, tmp_path / "none", tmp_path / "kept")
    assert read_kept("kl", tmp_path / "kept") == {}


def test_verdicts_are_those_of_the_intervals() -> None:
    """Just inside and just outside Student's and Welch's 95 %: other levels would fail."""
    seeds = np.array([-1.0, -0.5, 0.0, 0.2, 0.4, 0.9])
    low, high = stats.ttest_1samp(seeds, 0.0).confidence_interval(0.95)
    words = [inside(seeds + 10.0 - high + by, 10.0) for by in (-0.01, 0.01)]
    words += [inside(seeds + 10.0 - low + by, 10.0) for by in (-0.01, 0.01)]
    assert words == ["inside", "open", "open", "above"]
    low, high = stats.ttest_ind(seeds, seeds, equal_var=False).confidence_interval(0.95)
    words = [compare(seeds - high + by, seeds) for by in (-0.01, 0.01)]
    words += [compare(seeds - low + by, seeds) for by in (-0.01, 0.01)]
    assert words == ["less", "open", "open", "more"]


def test_one_seed_decides_nothing_and_two_hardly_anything() -> None:
    seeds = np.array([0.0, 1.0])
    assert inside(seeds[:1], 100.0) == compare(seeds[:1] + 9, seeds) == "open"
    assert inside(seeds, 5.0) == "open"
    assert inside(seeds, 7.0) == "inside"  # 0.5 + 12.7 * 0.5 = 6.85
    assert inside(np.zeros(2), 1.0) == "inside"


def test_a_table_of_verdicts_compares_with_its_first_row() -> None:
    seeds = np.array([-0.5, 0.0, 0.1, 0.4])
    arms = {"one": (seeds, seeds + 5), "two": (seeds + 3, seeds + 5.1), "three": (seeds, seeds + 9)}
    table = verdicts(arms, 6.0)
    assert table["against the first"].tolist() == ["open", "more", "open"]
    assert table["against the first "].tolist() == ["open", "open", "more"]
    assert table["limit"].tolist() == ["inside", "inside", "above"]
    assert [expectation(word, "more") for word in ("more", "open", "less")] == [
        "met",
        "not decided by these seeds",
        "not met: less",
    ]


def test_arms_are_the_settings_that_have_runs(kept: Kept) -> None:
    arms = arms_of(kept, {"a": {"kl_limit": 0.01}, "absent": {"kl_limit": 0.5}})
    assert [*arms] == ["a"]
    returns, costs = arms["a"]
    assert returns.tolist() == kept.rows(kl_limit=0.01)["sampled_return"].tolist()
    assert costs.tolist() == kept.rows(kl_limit=0.01)["sampled_cost"].tolist()


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 5)), elements=st.floats(-9, 9)))
def test_effects_add_up_to_the_table_and_each_sums_to_zero(table: np.ndarray) -> None:
    rows, columns, interaction = effects(table)
    np.testing.assert_allclose(
        table.mean() + rows[:, None] + columns + interaction, table, atol=1e-9
    )
    for part in (rows, columns, *interaction, *interaction.T):
        assert part.sum() == pytest.approx(0.0, abs=1e-9)


def test_a_table_without_interaction_has_none() -> None:
    table = np.array([1.0, 2.0, 5.0])[:, None] + np.array([0.0, 3.0])
    assert np.abs(effects(table)[2]).max() < 1e-12


def test_the_best_of_equal_settings_promises_too_much() -> None:
    promised, kept = optimism(np.random.default_rng(0).normal(size=(9, 10)))
    assert promised.mean() > kept.mean() + 0.3
    better = np.arange(4.0)[:, None] + np.zeros((4, 6))
    promised, kept = optimism(better)
    assert (promised == 3).all()
    assert (kept == 3).all()


def test_who_is_best_depends_on_means_or_intervals() -> None:
    noise = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])
    returns = np.array([[9.0], [6.0], [5.0]]) + 0.1 * noise
    costs = np.array([[9.8], [8.0], [2.0]]) + noise
    assert best_by_mean(returns, costs, 10.0) == 0
    assert best_inside(returns, costs, 10.0) == 1
    assert best_by_mean(returns, costs, 1.0) is best_inside(returns, costs, 1.0) is None


def test_among_safe_settings_the_lower_end_decides_and_not_the_mean() -> None:
    noise = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])
    returns = np.array([7.0 + 2.0 * noise, 6.5 + 0.1 * noise])
    costs = np.array([2.0 + noise, 3.0 + noise])
    assert best_by_mean(returns, costs, 10.0) == 0
    assert best_inside(returns, costs, 10.0) == 1


def test_a_grid_has_only_the_seeds_that_all_its_places_have() -> None:
    rows = [
        {"margin_lambda": x, "steepness_k": k, "seed": seed, "score": 100 * x + k + seed}
        for x in (0.5, 0.7)
        for k in (1.0, 2.0, 3.0)
        for seed in range(3)
    ]
    kept = Kept(pd.DataFrame(rows[::-1][1:]), pd.DataFrame(), {}, 6)
    values, lambdas, ks = grid_of(kept, "score", "margin_lambda", "steepness_k")
    assert (lambdas, ks) == ([0.5, 0.7], [1.0, 2.0, 3.0])
    expected = [[[100 * x + k + seed for seed in (0, 1)] for k in ks] for x in lambdas]
    np.testing.assert_allclose(values, expected)


def test_a_grid_of_rules_and_seeds_that_nobody_shares() -> None:
    rows = [
        {"run": f"{rule}_{seed}", "configuration": "run", "algorithm": rule, "seed": seed}
        for rule, seed in (("cpo", 0), ("cpo", 1), ("ppo", 1), ("ppo", 2), ("trpo", 1))
    ]
    spec = {"seeds": [0, 1, 2], "common": {"env_id": "PointMass-v0"}}
    spec["grid"] = {"algorithm": ["cpo", "ppo", "trpo"]}
    kept = Kept(pd.DataFrame(rows), pd.DataFrame(), spec, 3)
    assert kept.settings == ["configuration", "algorithm"]
    assert kept.seeds == "1 to 2 of 3 seeds"
    assert kept.common_seeds == 1
    assert Kept(kept.results.iloc[:4].query("seed != 1"), kept.curves, spec, 2).common_seeds == 0


def test_on_the_shore_lambda_sets_the_cost_and_k_the_swing_of_the_weight() -> None:
    kept = shore_map(seeds=3)
    assert (kept.seeds, kept.common_seeds, kept.task) == ("3 of 3 seeds", 3, "shore walk")
    costs, _, _ = grid_of(kept, "training_cost", "margin_lambda", "steepness_k")
    assert (np.diff(costs.mean(axis=-1), axis=0) > 0).all()
    spread, _, _ = grid_of(kept, "weight_spread", "margin_lambda", "steepness_k")
    assert (np.diff(spread.mean(axis=-1), axis=1) > 0).all()
    assert shore_map(seeds=3).results.equals(kept.results)


def test_ablations_of_the_point_mass_share_their_settings() -> None:
    paths = sorted(SPECS.glob("ablation_*_point_mass.toml"))
    blocks = [tomllib.loads(path.read_text("utf-8"))["common"] for path in paths]
    assert len(blocks) >= 5
    assert all(block == blocks[0] for block in blocks)


def test_what_is_kept_was_made_by_the_specs_of_today() -> None:
    paths = sorted(KEPT.glob("ablation_*.json"))
    assert len(paths) >= 5
    for path in paths:
        spec = tomllib.loads((SPECS / path.name).with_suffix(".toml").read_text("utf-8"))
        assert json.loads(path.read_text("utf-8"))["spec"] == spec, path.name


def test_a_kept_configuration_counts_without_a_value_in_anothers_grid() -> None:
    grid = {"algorithm": "cpo", "grid": {"limit_share": [1.0, 0.5]}}
    spec = {"seeds": [0], "configurations": {"plain": {}, "told_less": grid}}
    names = ["plain", "told_less", "told_less"]
    table = pd.DataFrame(
        {"configuration": names, "limit_share": [np.nan, 1.0, 0.5], "seed": [0, 0, 0]}
    )
    whole = Kept(table, pd.DataFrame(), spec, planned=3)
    assert (whole.common_seeds, whole.seeds) == (1, "1 of 1 seeds")
    begun = Kept(table.iloc[:1].drop(columns="limit_share"), pd.DataFrame(), spec, planned=3)
    assert (begun.common_seeds, begun.seeds) == (0, "1 of 1 seeds")
