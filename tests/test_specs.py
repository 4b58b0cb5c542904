"""Specs of sweeps: configurations x grid x seeds, and a sentence for whatever is wrong."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfcpo_lib.specs
from kfcpo_lib import TrainConfig
from kfcpo_lib.specs import NAME, SETTINGS, plan, read_spec

SPECS = sorted((Path(__file__).parents[1] / "figures" / "specs").glob("*.toml"))
WORLD = {"env_id": "PointMass-v0"}


def test_the_example_of_the_documentation_is_read_as_it_says() -> None:
    lines = (kfcpo_lib.specs.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    spec = plan(tomllib.loads(example.replace("rule.damping = 0.01\n", "rule.damping = 0.02\n")))
    assert spec.evaluation_episodes == 100
    named = {run.name: run for run in spec.runs}
    assert len(named) == (2 + 2 * 2) * 3
    seeds = [run.config.seed for run in spec.runs]
    assert seeds == sorted(seeds)  # a part of the sweep compares alike
    run = named["kfcpo_margin_lambda=0.5_2"]
    assert (run.configuration, run.choices) == ("kfcpo", {"margin_lambda": 0.5})
    expected = {"env_id": "SafetyPointGoal1-v0", "margin_lambda": 0.5, "rule": {"damping": 0.02}}
    assert run.config == TrainConfig(seed=2, **expected)
    own = named["trpo_lag_margin_lambda=0.7_damping=1.0_0"]
    assert own.choices == {"margin_lambda": 0.7, "rule.damping": 1.0}
    assert (own.config.algorithm, own.config.margin_lambda) == ("trpo_lag", 0.7)
    assert own.config.rule == {"damping": 1.0}


def test_a_configuration_goes_before_common_and_its_rule_is_joined() -> None:
    common = WORLD | {"kl_limit": 0.02, "rule": {"damping": 0.1, "minibatch_size": 500}}
    own = {"kl_limit": 0.03, "rule": {"damping": 0.2}}
    [run] = plan({"seeds": [4], "common": common, "configurations": {"own": own}}).runs
    rule = {"damping": 0.2, "minibatch_size": 500}
    assert run.config == TrainConfig(**WORLD, kl_limit=0.03, rule=rule, seed=4)
    assert run.name == "own_4"


def test_a_rules_setting_may_stand_in_the_grid() -> None:
    grid = {"rule": {"conflict": ["none", "project_cost"]}, "hidden_sizes": [[8], [8, 8]]}
    runs = plan({"seeds": [0], "common": WORLD, "grid": grid}).runs
    assert {run.name for run in runs} == {
        f"run_hidden_sizes={sizes}_conflict={conflict}_0"
        for sizes, conflict in itertools.product(("8", "8x8"), ("none", "project_cost"))
    }
    assert runs[-1].config.rule == {"conflict": "project_cost"}
    assert runs[-1].config.hidden_sizes == (8, 8)


ONE = {"seeds": [0]}
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({**ONE, "seed": 1}, ["a spec has no seed", "seeds, evaluation_episodes"]),
    "unknown setting": ({**ONE, "common": {"lamda": 1}}, ["[common] has no lamda", "algorithm"]),
    "folder": ({**ONE, "common": {"run_dir": "x"}}, ["[common] has no run_dir"]),
    "seed in common": ({**ONE, "common": {"seed": 1}}, ["[common] has no seed"]),
    "in configuration": ({**ONE, "configurations": {"a": {"b": 1}}}, ["[a] has no b"]),
    "rule setting": ({**ONE, "common": {"rule": {"x": 1}}}, ["run_0", "kfcpo has no setting 'x'"]),
    "value": ({**ONE, "common": {"kl_limit": -1}}, ["run_0", "kl_limit must be", "-1"]),
    "task": ({**ONE, "common": {"env_id": "SafetyPointGaol1-v0"}}, ["SafetyPointGoal1-v0"]),
    "algorithm": ({**ONE, "common": {"algorithm": "sarsa"}}, ["unknown algorithm 'sarsa'"]),
    "no seeds": ({}, ["seeds must be a list of at least one", "None"]),
    "empty seeds": ({"seeds": []}, ["seeds must be a list of at least one", "[]"]),
    "seed": ({"seeds": ["one"]}, ["seed must be an integer", "'one'"]),
    "same seed twice": ({"seeds": [1, 1]}, ["2 runs would share the name 'run_1'"]),
    "empty grid": ({**ONE, "grid": {"kl_limit": []}}, ["kl_limit in [grid]", "list", "[]"]),
    "no list": ({**ONE, "grid": {"kl_limit": 0.1}}, ["kl_limit in [grid]", "list", "0.1"]),
    "same value": ({**ONE, "grid": {"kl_limit": [0.1, 0.1]}}, ["share the name"]),
    "capitals": ({**ONE, "configurations": {"a": {}, "A": {}}}, ["share the name 'a_0'"]),
    "bad name": ({**ONE, "configurations": {"../a": {}}}, ["'../a_0' cannot be a run's name"]),
    "long name": ({**ONE, "configurations": {"a" * 200: {}}}, ["cannot be a run's name"]),
    "twice": (
        {**ONE, "grid": {"kl_limit": [0.1]}, "configurations": {"a": {"kl_limit": 0.2}}},
        ["kl_limit stands in [grid] and in [configurations.a]"],
    ),
    "twice in one": (
        {**ONE, "configurations": {"a": {"kl_limit": 0.2, "grid": {"kl_limit": [0.1]}}}},
        ["kl_limit stands in [configurations.a.grid] and in [configurations.a]"],
    ),
    "no list of its own": (
        {**ONE, "configurations": {"a": {"grid": {"kl_limit": 0.1}}}},
        ["kl_limit in [configurations.a.grid] must be a list", "0.1"],
    ),
    "unknown in its own grid": (
        {**ONE, "configurations": {"a": {"grid": {"b": [1]}}}},
        ["[configurations.a.grid] has no b"],
    ),
    "its own grid is no table": (
        {**ONE, "configurations": {"a": {"grid": 3}}},
        ["configurations.a.grid must be a table, got 3"],
    ),
    "no table": ({**ONE, "grid": [1]}, ["grid must be a table", "[1]"]),
    "no rule table": ({**ONE, "common": {"rule": 3}}, ["rule must be a table", "3"]),
    "episodes": ({**ONE, "evaluation_episodes": 0}, ["evaluation_episodes", "0"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    content, words = WRONG[name]
    with pytest.raises(ValueError) as refusal:
        plan({"common": WORLD} | content)
    for word in words:
        assert word in str(refusal.value)


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    for content in (b"seeds = [1,", b"\xff\xfe", b"a = " + 5_000 * b"["):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken.toml is not readable as TOML"):
            read_spec(path)
    path.write_text("seeds = []")
    with pytest.raises(ValueError, match=r"broken.toml: seeds must be"):
        read_spec(path)
    with pytest.raises(OSError, match="absent"):
        read_spec(tmp_path / "absent.toml")


words = st.one_of(
    st.sampled_from(["common", "grid", "configurations", "rule", "seeds", "kfcpo", *SETTINGS]),
    st.text(max_size=5),
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(words, inner, max_size=2)),
    max_leaves=5,
)


@given(st.dictionaries(words, values, max_size=3))
def test_any_content_is_a_spec_or_a_sentence(content: dict[str, Any]) -> None:
    try:
        runs = plan(content | {"seeds": [0]}).runs
    except ValueError as refusal:
        assert str(refusal)
    else:
        assert runs


@given(text=st.one_of(st.text(), st.from_regex(r"(seeds|\[common\]|\[grid\])[\s=\[\]0-9a-z\".]*")))
def test_any_text_is_a_spec_or_a_sentence(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "spec.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_spec(path)
    except ValueError as refusal:
        assert "spec.toml" in str(refusal)


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    limits=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=3, unique=True),
    rules=st.lists(st.sampled_from(["kfcpo", "cpo", "ppo"]), min_size=1, max_size=3, unique=True),
)
def test_every_combination_is_planned_once(
    seeds: list[int], limits: list[float], rules: list[str]
) -> None:
    configurations = {rule: {"algorithm": rule} for rule in rules}
    grid = {"kl_limit": limits}
    spec = plan({"seeds": seeds, "common": WORLD, "grid": grid, "configurations": configurations})
    planned = [(r.config.algorithm, r.config.kl_limit, r.config.seed) for r in spec.runs]
    assert sorted(planned) == sorted(itertools.product(rules, limits, seeds))
    names = {run.name for run in spec.runs}
    assert len(names) == len(planned)
    assert all(NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_courses_specs_are_read(path: Path) -> None:
    assert read_spec(path).runs
