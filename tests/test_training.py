"""The training loop: same seed, same bytes; killed at any moment, resumed to the same numbers;
nothing that is not finite reaches the policy."""

import math
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import (
    EPOCH,
    SpoiltPointMass,
    content,
    die,
    files,
    in_child,
    needs_fork,
    numbers,
    progress,
    spoilt,
    start_child,
    tiny,
    wait_for,
)

import kfcpo_lib.runs
import kfcpo_lib.training
from kfcpo_lib import Knobs, train
from kfcpo_lib.algorithms import RULES, cpo, kfcpo
from kfcpo_lib.records import UpdateReport
from kfcpo_lib.runs import read_checkpoint, read_policy
from kfcpo_lib.streams import Streams
from kfcpo_lib.training import LOWEST_LAMBDA, MOST_VIOLATION, Training, moved_lambda

__all__ = ["spoilt"]
NAN = math.nan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    list(train(tiny(folder)))
    assert (folder / "episodes.csv").read_text().count("\n") > 2
    return folder


def finish(folder: Path, **changes: Any) -> None:
    list(train(tiny(folder, **changes), resume=True))


# ------------------------------------------------------------------------- same seed, same bytes


def test_same_seed_gives_the_same_bytes_whatever_the_threads_and_global_seeds(
    whole: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    random.seed(1234)
    torch.set_num_threads(3)
    try:
        for _ in train(tiny(tmp_path)):
            assert torch.get_num_threads() == 3  # and it is given back at every yield
    finally:
        torch.set_num_threads(threads)
    assert content(tmp_path) == content(whole)


def test_epochs_are_computed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On several the sums of larger networks would be rounded otherwise."""
    threads, seen = torch.get_num_threads(), []

    def watch(*_: Any) -> UpdateReport:
        seen.append(torch.get_num_threads())
        return UpdateReport([], 0.5, 0.0)

    monkeypatch.setattr(kfcpo, "update", watch)
    torch.set_num_threads(2)
    try:
        next(train(tiny()))
    finally:
        torch.set_num_threads(threads)
    assert seen == [1]


def test_a_run_on_disk_has_the_numbers_of_one_in_memory(whole: Path) -> None:
    assert [numbers(report) for report in train(tiny())] == progress(whole)


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(train(tiny()))
    assert list(tmp_path.iterdir()) == []


def test_trainings_that_take_turns_do_not_touch_each_other(whole: Path) -> None:
    first, second = train(tiny()), train(tiny(seed=1))
    rows = [(numbers(next(first)), numbers(next(second))) for _ in range(3)]
    assert [row for row, _ in rows] == progress(whole)[:3]
    assert [row for _, row in rows] == [numbers(r) for r in train(tiny(seed=1, total_steps=600))]


def test_different_seeds_and_purposes_share_no_stream() -> None:
    streams = [vars(Streams.of_seed(seed)).values() for seed in range(200)]
    firsts = {float(torch.rand((), generator=g, dtype=torch.double)) for of in streams for g in of}
    assert len(firsts) == 200 * len(streams[0])


def test_different_seeds_start_with_other_worlds_and_other_networks() -> None:
    starts = [Training.start(tiny(seed=seed)) for seed in (0, 1)]
    positions = [start.obs[:, :2] for start in starts]
    assert not np.isclose(*positions).any()
    for network in ("policy", "critics"):
        first, second = (vars(start)[network].parameters() for start in starts)
        pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.ndim == 2]
        assert pairs and not any(torch.isclose(a, b).any() for a, b in pairs)


def test_first_episodes_are_shortened_only_where_epochs_cut_episodes() -> None:
    assert Training.start(tiny()).episodes.shortened.all()  # 50 of 200 steps
    assert not Training.start(tiny(steps_per_epoch=800)).episodes.shortened.any()
    assert not Training.start(tiny(steps_per_epoch=1600)).episodes.shortened.any()
    assert Training.start(tiny(steps_per_epoch=1200)).episodes.shortened.all()
    assert Training.start(tiny(steps_per_epoch=800, stagger=True)).episodes.shortened.all()
    assert not Training.start(tiny(stagger=False)).episodes.shortened.any()


# ---------------------------------------------------------------------------------- dropped early


def test_a_training_closes_its_environment_whenever_it_is_dropped(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    reports = train(tiny(tmp_path))
    del reports  # before the first epoch
    assert spoilt.closed == 1
    for _ in train(tiny(tmp_path), resume=True):
        break
    assert spoilt.closed == 2
    finish(tmp_path)  # the folder is free again
    assert spoilt.closed == 3


def test_a_training_closes_its_environment_when_it_is_refused(
    spoilt: type[SpoiltPointMass], whole: Path
) -> None:
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(tiny(whole))
    assert spoilt.closed == 1


def test_a_training_closes_its_environment_when_a_network_cannot_be_made(
    spoilt: type[SpoiltPointMass],
) -> None:
    with pytest.raises(ValueError, match="cnn"):
        train(tiny(network="cnn"))
    assert spoilt.closed == 1


# ---------------------------------------------------------------------- refused before any file


BAD: list[tuple[dict[str, Any], str]] = [
    ({"algorithm": "kfpco"}, "unknown algorithm 'kfpco'; known are kfcpo"),
    (
        {"algorithm": "cpo", "rule": {}, "margin_rate": 0.1},
        "margin_rate must be 0 for cpo, got 0.1",
    ),
    ({"limit_share": 0.5}, "limit_share must be 1 for kfcpo, got 0.5.*margin_lambda"),
    ({"env_id": "SafetyPointGoal9-v0"}, "unknown environment 'SafetyPointGoal9-v0'; did you mean"),
    ({"device": "gpu"}, "device 'gpu' cannot be used here"),
    ({"device": "meta"}, "device must be 'cpu' or 'cuda', got 'meta'"),
    ({"rule": {"speed": 3}}, "kfcpo has no setting 'speed'; it has minibatch_size"),
    ({"rule": {"minibatch_size": 0}}, "minibatch_size must be .*got 0"),
    ({"rule": {"minibatch_size": 2.5}}, "minibatch_size of kfcpo must be of type int, got 2.5"),
    ({"rule": {"minibatch_size": "100"}}, "must be of type int, got '100'"),
    ({"rule": {"delta_start": -1.0}}, "delta_start must be positive.*got -1.0"),
    ({"rule": {"conflict": "ignore"}}, "conflict must be one of project_cost, .* got 'ignore'"),
    ({"rule": {"adaptive_delta": 1}}, "adaptive_delta of kfcpo must be of type bool, got 1"),
    ({"rule": {"damping": -1.0}}, "damping must be .*got -1.0"),
    ({"rule": {"factor_decay": 1.5}}, r"decay must be in \[0, 1.*, got 1.5"),
    ({"rule": {"factor_period": 0}}, "factor_period.* must be .*at least 1, got 0"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_bad_names_are_refused_at_the_call_and_nothing_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(tiny(tmp_path / "run", **changes))
    assert list(tmp_path.iterdir()) == []


def test_resuming_without_a_folder_is_refused() -> None:
    with pytest.raises(ValueError, match="resume needs run_dir"):
        train(tiny(), resume=True)


def test_an_integer_stands_for_a_real_number_in_a_rule() -> None:
    assert next(train(tiny(rule={"damping": 1}, total_steps=1))).minibatches == 1


# --------------------------------------------------------------------- killed, and resumed


def kill_at(operation: int) -> None:
    """In a child: die at the n-th operation on a file; writes are left half done."""
    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == operation

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if due():
                die()
            return original(*arguments)

        return call

    class HalfWriter:
        def __init__(self, *arguments: Any) -> None:
            self.file = open(*arguments)  # noqa: SIM115

        def __enter__(self) -> "HalfWriter":
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, text: bytes) -> None:
            if due():
                self.file.write(text[: len(text) // 2])
                self.file.flush()
                die()
            self.file.write(text)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    for name in ("fsync", "replace", "truncate"):
        setattr(os, name, deadly(getattr(os, name)))
    kfcpo_lib.runs.open = HalfWriter  # type: ignore[attr-defined]


def resume_until_killed(folder: Path, operation: int) -> int:
    def job() -> None:
        kill_at(operation)
        finish(folder)

    return in_child(job)


@needs_fork
def test_a_run_killed_again_and_again_at_every_operation_ends_as_if_undisturbed(
    whole: Path, tmp_path: Path
) -> None:
    """Process n dies at its n-th operation on a file: in each kind of write, and between them."""
    killed = 0
    while (code := resume_until_killed(tmp_path, killed + 1)) != 0:
        assert code == -signal.SIGKILL
        killed += 1
    assert killed > 15
    assert content(tmp_path) == content(whole)
    assert set(files(tmp_path)) == set(files(whole))


@needs_fork
@pytest.mark.full
def test_a_run_killed_at_any_operation_is_resumed_to_the_same_bytes(
    whole: Path, tmp_path: Path
) -> None:
    operation = 1
    while resume_until_killed(tmp_path / str(operation), operation) != 0:
        finish(tmp_path / str(operation))
        assert content(tmp_path / str(operation)) == content(whole), operation
        operation += 1
    assert operation > 60


@needs_fork
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2, 3))])
def test_a_run_killed_at_random_moments_is_resumed_to_the_same_bytes(
    seed: int, whole: Path, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    killed, runs = 0, 0
    while killed < 3:  # a fast machine may finish a run before it is killed often enough
        runs += 1
        killed += kill_and_resume_until_finished(tmp_path / str(runs), draw)
        assert content(tmp_path / str(runs)) == content(whole)
        assert runs < 30, f"only {killed} kills hit a run in progress"


def kill_and_resume_until_finished(run_dir: Path, draw: random.Random) -> int:
    """How many kills, each at a random moment, came before the run's end."""
    killed, code = 0, -1
    while code != 0:
        child = start_child(lambda: finish(run_dir))
        time.sleep(killed * 0.02 + draw.uniform(0.0, 0.15))  # the last one lives long enough
        os.kill(child, signal.SIGKILL)
        code = wait_for(child)
        killed += code != 0
    return killed


@needs_fork
def test_a_kill_in_the_middle_of_an_epoch_loses_that_epoch_only(
    whole: Path, tmp_path: Path, spoilt: type[SpoiltPointMass]
) -> None:
    def job() -> None:
        step = spoilt.step

        def deadly(self: SpoiltPointMass, actions: Any) -> Any:
            if self.calls == 125:  # half of epoch 3
                die()
            return step(self, actions)

        spoilt.step = deadly  # type: ignore[method-assign]
        finish(tmp_path)

    assert in_child(job) == -signal.SIGKILL
    assert progress(tmp_path) == progress(whole)[:2]
    reports = train(tiny(tmp_path), resume=True)
    assert next(reports).epoch == 3
    list(reports)
    assert content(tmp_path) == content(whole)


@needs_fork
@pytest.mark.parametrize(
    "algorithm",
    [name if name == "trpo_lag" else pytest.param(name, marks=pytest.mark.full) for name in RULES],
)
def test_every_update_rule_resumes_to_the_same_bytes(algorithm: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"algorithm": algorithm, "rule": {}}
    list(train(tiny(tmp_path / "whole", **changes)))
    stopped = tmp_path / "stopped"
    for report in train(tiny(stopped, **changes)):
        if report.epoch == 5:
            break
    finish(stopped, **changes)
    assert content(stopped) == content(tmp_path / "whole")


def test_resuming_a_folder_without_a_run_starts_one(whole: Path, tmp_path: Path) -> None:
    finish(tmp_path / "new")
    assert content(tmp_path / "new") == content(whole)


def test_resuming_a_finished_run_changes_nothing(whole: Path) -> None:
    before = files(whole)
    finish(whole)
    finish(whole, total_steps=EPOCH)  # it has more than that
    assert files(whole) == before


def test_resuming_with_more_steps_gives_the_numbers_of_a_run_that_was_longer_from_the_start(
    tmp_path: Path, whole: Path
) -> None:
    list(train(tiny(tmp_path, total_steps=3 * EPOCH)))
    finish(tmp_path)
    assert content(tmp_path) == content(whole)
    assert kfcpo_lib.runs.read_config(tmp_path)["settings"]["total_steps"] == 6 * EPOCH


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 1), ("kl_limit", 0.02), ("num_envs", 2), ("algorithm", "trpo"), ("cost_limit", 1.0),
     ("rule", {"minibatch_size": 50}), ("hidden_sizes", (9,)), ("stagger", False)],
)  # fmt: skip
def test_resuming_with_another_setting_is_refused_and_names_it(
    name: str, value: Any, whole: Path
) -> None:
    before = files(whole)
    changes = {"rule": {}} | {name: value} if name == "algorithm" else {name: value}
    with pytest.raises(ValueError, match=f"started otherwise: .*{name} was"):
        train(tiny(whole, total_steps=5000, **changes), resume=True)
    assert files(whole) == before


def test_environments_that_cannot_be_saved_start_new_episodes_after_a_resume(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.state = lambda self: None  # type: ignore[method-assign, assignment, return-value]
    reports = train(tiny(tmp_path, stagger=False))
    assert [next(reports).epoch for _ in range(3)] == [1, 2, 3]
    del reports
    rest = list(train(tiny(tmp_path, stagger=False, total_steps=8 * EPOCH), resume=True))
    ends = [(e.env_steps, e.length) for report in rest for e in report.episodes]
    assert ends == [(7 * EPOCH, 200)] * 4  # 150 steps before and 200 after, not 150 + 50


def test_environments_that_cannot_be_saved_are_other_ones_after_a_resume(
    spoilt: type[SpoiltPointMass], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt.state = lambda self: None  # type: ignore[method-assign, assignment, return-value]
    make, seeds = kfcpo_lib.training.make_vec_env, []

    def watched(env_id: str, num_envs: int, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        env = make(env_id, num_envs, seed, **options)
        env.simulator_errors = len(seeds)
        return env

    monkeypatch.setattr(kfcpo_lib.training, "make_vec_env", watched)
    for epochs in (1, 2, 4):
        reports = list(train(tiny(tmp_path, total_steps=epochs * EPOCH), resume=True))
    assert seeds == [0, 4, 8]  # four environments
    assert reports[-1].simulator_errors == 1  # counted since the run began


@pytest.mark.parametrize("num_envs", [7, 30])
def test_a_run_never_takes_seeds_of_the_next_one(
    num_envs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, ends = kfcpo_lib.training.make_vec_env, []

    def watched(env_id: str, num_envs: int, seed: int, **options: Any) -> Any:
        ends.append(seed + num_envs)
        return make(env_id, num_envs, seed, **options)

    monkeypatch.setattr(kfcpo_lib.training, "make_vec_env", watched)
    config = tiny(num_envs=num_envs, steps_per_epoch=10 * num_envs, seed=3)
    for epochs in range(10_000 // num_envs - 2, 10_000 // num_envs + 2):
        Training.start(config, epochs).env.close()
    assert max(ends) <= 40_000
    assert min(ends) == 30_000 + num_envs  # then it begins again


# ------------------------------------------------------------------------------------------ knobs


def test_a_turned_knob_takes_effect_at_the_next_epoch_and_is_recorded(tmp_path: Path) -> None:
    knobs = Knobs()
    for report in train(tiny(tmp_path), knobs):
        if report.epoch == 4:
            knobs.kl_limit, knobs.margin_lambda, knobs.cost_limit = 1e-5, 0.5, 7.0
    rows = progress(tmp_path)
    assert [row["kl_limit"] for row in rows] == ["0.01"] * 4 + ["1e-05"] * 2
    assert [row["margin_lambda"] for row in rows] == ["0.8"] * 4 + ["0.5"] * 2
    assert [row["cost_limit"] for row in rows] == ["25.0"] * 4 + ["7.0"] * 2
    untouched = [numbers(report) for report in train(tiny(total_steps=5 * EPOCH))]
    assert rows[:4] == untouched[:4]
    assert int(rows[4]["rollbacks"]) > int(untouched[4]["rollbacks"])  # 1e-5 undoes steps


def test_a_knob_turned_in_the_middle_of_an_epoch_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knobs, seen = Knobs(), []

    def turn(policy: Any, batch: Any, episodic_cost: Any, position: Knobs, state: Any) -> Any:
        knobs.kl_limit = 0.5  # as a slider of another thread would
        seen.append(position.kl_limit)
        return UpdateReport([], 0.5, 0.0)

    monkeypatch.setattr(kfcpo, "update", turn)
    reports = list(train(tiny(total_steps=2 * EPOCH), knobs))
    assert seen == [0.01, 0.5] == [report.kl_limit for report in reports]


def test_a_rule_is_told_a_share_of_the_limit_and_judged_by_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[float] = []

    def listen(policy: Any, batch: Any, episodic_cost: Any, knobs: Knobs, state: Any) -> Any:
        told.append(knobs.cost_limit)
        return UpdateReport([], 0.5, 0.0)

    monkeypatch.setattr(cpo, "update", listen)
    knobs = Knobs(cost_limit=20.0)
    config = tiny(algorithm="cpo", rule={}, limit_share=0.25, total_steps=2 * EPOCH)
    reports = list(train(config, knobs))
    assert told == [5.0, 5.0]
    assert [report.cost_limit for report in reports] == [20.0, 20.0]
    assert knobs.cost_limit == 20.0


@needs_fork
def test_a_turned_knob_survives_kill_and_resume(tmp_path: Path) -> None:
    def turned(folder: Path, dies: bool) -> None:
        knobs = Knobs()
        for report in train(tiny(folder), knobs):
            if report.epoch == 2:
                knobs.cost_limit = 7.0
            if report.epoch == 4 and dies:
                die()

    turned(tmp_path / "whole", dies=False)
    assert in_child(lambda: turned(tmp_path / "killed", dies=True)) == -signal.SIGKILL
    finish(tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert progress(tmp_path / "killed")[-1]["cost_limit"] == "7.0"


def test_knobs_that_are_handed_over_go_before_the_stored_ones(tmp_path: Path) -> None:
    list(train(tiny(tmp_path, total_steps=EPOCH)))
    report = next(train(tiny(tmp_path), Knobs(cost_limit=3.0), resume=True))
    assert report.cost_limit == 3.0


# ------------------------------------------------------------------------ numbers that are not


def learners(folder: Path) -> dict[str, Any]:
    state = read_checkpoint(folder)
    return {name: repr(state[name]) for name in ("policy", "critics", "optimiser", "normaliser")}


@pytest.mark.parametrize("what", ["reward", "cost"])
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_spoilt_epoch_reaches_no_learner_and_the_training_goes_on(
    what: str, value: float, spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.what, spoilt.value, spoilt.at = what, value, frozenset({60, 61})  # epoch 2
    reports = train(tiny(tmp_path))
    states = [(next(reports), learners(tmp_path)) for _ in range(3)]
    (_, first), (report, second), (after, third) = states
    assert (report.nonfinite, report.minibatches, report.rollbacks) == (2, 0, 0)
    assert first == second != third
    assert after.nonfinite == 0 and after.minibatches == 2
    rest = list(reports)
    episodes = [episode for report in rest for episode in report.episodes]
    assert rest[-1].epoch == 6 and episodes
    assert all(math.isfinite(e.episode_return + e.episode_cost) for e in episodes)


def test_an_infinite_observation_spoils_the_epoch(spoilt: type[SpoiltPointMass]) -> None:
    spoilt.what, spoilt.value, spoilt.at = "obs", math.inf, frozenset({60})
    reports = list(train(tiny()))
    assert [report.nonfinite > 0 for report in reports] == [False, True] + [False] * 4


def test_a_simulator_that_is_always_spoilt_is_given_up_after_three_epochs(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.at = frozenset(range(60, 10_000))
    reports = train(tiny(tmp_path))
    assert [next(reports).epoch for _ in range(4)] == [1, 2, 3, 4]
    expected = rf"PointMass-v0 returned .*3 epochs in a row.*step 800.*{tmp_path} is safe up to"
    with pytest.raises(FloatingPointError, match=expected):
        next(reports)
    assert spoilt.closed == 1


def test_spoilt_epochs_are_counted_across_a_resume(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.at = frozenset(range(60, 10_000))
    reports = train(tiny(tmp_path))
    assert [next(reports).epoch for _ in range(3)] == [1, 2, 3]  # two of them spoilt
    del reports
    reports = train(tiny(tmp_path), resume=True)
    assert next(reports).epoch == 4
    with pytest.raises(FloatingPointError, match="3 epochs in a row"):
        next(reports)


def test_epochs_spoilt_now_and_then_do_not_add_up(spoilt: type[SpoiltPointMass]) -> None:
    spoilt.at = frozenset({10, 60, 160, 210})  # epochs 1, 2, 4, 5
    assert [r.nonfinite for r in train(tiny())] == [1, 1, 0, 1, 1, 0]


def test_an_update_without_steps_is_not_mistaken_for_a_spoilt_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kfcpo, "update", lambda *_: UpdateReport([], 0.5, 0.0))
    assert len(list(train(tiny()))) == 6


def test_a_nan_observation_stops_and_names_environment_index_and_step(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    spoilt.what, spoilt.at = "obs", frozenset({120})
    reports = train(tiny(tmp_path))
    assert [next(reports).epoch for _ in range(2)] == [1, 2]
    saved = files(tmp_path)
    expected = rf"environment 1 of PointMass-v0 .* at step 480: .*{tmp_path} is safe up to epoch 2"
    with pytest.raises(FloatingPointError, match=expected):
        next(reports)
    assert files(tmp_path) == saved
    spoilt.at = frozenset()
    assert next(train(tiny(tmp_path), resume=True)).epoch == 3


def test_columns_of_a_rule_stand_in_order_also_after_a_spoilt_first_epoch(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"algorithm": "trpo_lag", "rule": {}}
    spoilt.at = frozenset({10})
    for report in train(tiny(tmp_path / "stopped", **changes)):
        if report.epoch == 3:
            break
    finish(tmp_path / "stopped", **changes)
    reports = list(train(tiny(tmp_path / "whole", **changes)))
    rows = progress(tmp_path / "whole")
    assert rows[0]["multiplier"] == "nan"
    assert [float(row["multiplier"]) for row in rows[1:]] == [
        report.extra["multiplier"] for report in reports[1:]
    ]
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


@needs_fork
def test_a_kill_while_the_columns_of_a_rule_are_added_loses_nothing(
    spoilt: type[SpoiltPointMass], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"algorithm": "trpo_lag", "rule": {}}
    spoilt.at = frozenset({10})
    list(train(tiny(tmp_path / "whole", **changes)))
    replace = os.replace

    def deadly(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == "progress.csv":
            die()

    def job() -> None:
        os.replace = deadly  # type: ignore[assignment]
        finish(tmp_path / "killed", **changes)

    assert in_child(job) == -signal.SIGKILL
    finish(tmp_path / "killed", **changes)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("part", ["advantage_reward", "advantage_cost", "obs"])
def test_a_nan_in_the_batch_is_rolled_back_and_counted(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch = kfcpo_lib.training.make_batch

    def poisoned(*arguments: Any) -> Any:
        batch = make_batch(*arguments)
        getattr(batch, part)[:] = NAN
        return batch

    reports = train(tiny(tmp_path, total_steps=2 * EPOCH))
    next(reports)
    before = read_policy(tmp_path)["policy"]
    monkeypatch.setattr(kfcpo_lib.training, "make_batch", poisoned)
    report = next(reports)
    assert report.rollbacks == report.minibatches == 2
    assert report.nonfinite >= 2
    after = read_policy(tmp_path)["policy"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_policy_that_is_not_finite_is_named_as_the_culprit(tmp_path: Path) -> None:
    training = Training.start(tiny())
    with torch.no_grad():
        training.policy.log_std.fill_(NAN)
    with pytest.raises(FloatingPointError, match="the policy returned the action"):
        kfcpo_lib.training.run_epoch(tiny(), Knobs(), training)


def test_steepness_warms_up_geometrically_and_is_recorded() -> None:
    reports = list(train(tiny(steepness_k=0.5, steepness_warmup=3 * EPOCH)))
    shares = [min(1.0, epoch / 3) for epoch in range(6)]
    assert [r.steepness_k for r in reports] == pytest.approx(
        [0.5 * 0.05 ** (1 - s) for s in shares]
    )
    assert [r.steepness_k for r in reports[3:]] == [0.5] * 3


def test_the_kl_limit_falls_and_is_recorded() -> None:
    reports = list(train(tiny(kl_limit=0.06, kl_halving=2 * EPOCH)))
    assert [r.kl_limit for r in reports[::2]] == pytest.approx([0.06, 0.03, 0.02])
    assert all(r.kl <= 1.5 * r.kl_limit for r in reports)


def test_a_margin_rate_moves_lambda_by_the_violation_up_to_a_half() -> None:
    config = tiny(margin_rate=0.5, cost_limit=1.0, total_steps=12 * EPOCH)
    reports = list(train(config))
    expected, known = config.margin_lambda, 0
    for report in reports:
        assert report.margin_lambda == pytest.approx(expected, abs=1e-12)
        if math.isfinite(report.episodic_cost_mean):
            known += 1
            violation = min(0.5, max(-0.5, report.episodic_cost_mean - 1.0))
            expected = min(1.0, max(LOWEST_LAMBDA, expected - 0.5 * violation))
    assert known > 3 and len({report.margin_lambda for report in reports}) > 2
    assert [r.margin_lambda for r in train(tiny())] == [0.8] * 6


@given(
    margin_lambda=st.floats(0.05, 1.0),
    rate=st.floats(0.0, 2.0),
    cost=st.floats(0.0, 1e6),
    limit=st.floats(1e-3, 1e3),
)
def test_lambda_falls_above_the_limit_rises_below_and_stays_in_its_bounds(
    margin_lambda: float, rate: float, cost: float, limit: float
) -> None:
    after = moved_lambda(margin_lambda, rate, cost, limit)
    assert LOWEST_LAMBDA <= after <= 1.0
    assert abs(after - margin_lambda) <= rate * MOST_VIOLATION + 1e-12
    assert after <= margin_lambda if cost > limit else after >= margin_lambda
    assert moved_lambda(margin_lambda, rate, NAN, limit) == margin_lambda


def test_lambda_moves_by_the_violation_as_a_share_of_the_limit() -> None:
    assert moved_lambda(0.8, 0.1, 30.0, 25.0) == pytest.approx(0.78)
    assert moved_lambda(0.8, 0.1, 20.0, 25.0) == pytest.approx(0.82)
    assert moved_lambda(0.8, 0.1, 500.0, 25.0) == pytest.approx(0.75)


def test_a_turned_lambda_takes_effect_as_it_is_and_moves_on_from_there() -> None:
    knobs = Knobs()
    seen = []
    for report in train(tiny(margin_rate=0.1, total_steps=10 * EPOCH), knobs):
        seen.append(report.margin_lambda)
        if report.epoch == 6:
            knobs.margin_lambda, knobs.cost_limit = 1.0, 1e3  # no violation from now on
        if report.epoch == 8:
            knobs.margin_lambda = 0.3
    assert seen[5] != 0.8
    assert seen[6:] == [1.0, 1.0, 0.3, pytest.approx(0.35)]


def test_a_knob_below_the_bounds_is_held_there_and_moves_from_there() -> None:
    knobs = Knobs(margin_lambda=0.01, cost_limit=1e3)
    seen = [r.margin_lambda for r in train(tiny(margin_rate=0.1, total_steps=12 * EPOCH), knobs)]
    first = next(i for i, value in enumerate(seen) if value > LOWEST_LAMBDA)
    assert seen[:first] == [LOWEST_LAMBDA] * first
    assert np.diff(seen[first - 1 :]) == pytest.approx(0.05)


@needs_fork
def test_a_moved_lambda_survives_kill_and_resume(tmp_path: Path) -> None:
    def dies(folder: Path) -> None:
        for report in train(tiny(folder, margin_rate=0.2)):
            if report.epoch == 4:
                die()

    finish(tmp_path / "whole", margin_rate=0.2)
    assert in_child(lambda: dies(tmp_path / "killed")) == -signal.SIGKILL
    finish(tmp_path / "killed", margin_rate=0.2)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert len({row["margin_lambda"] for row in progress(tmp_path / "whole")}) > 1


def test_the_costs_look_ahead_shortens_over_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    whole = kfcpo_lib.training.make_batch

    def listen(*words: Any) -> Any:
        seen.append(words[-1])
        return whole(*words)

    monkeypatch.setattr(kfcpo_lib.training, "make_batch", listen)
    list(train(tiny(gae_lambda=0.9, cost_gae_lambda=0.5, cost_gae_warmup=4 * EPOCH)))
    assert seen == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.5])
    for lone in ({"cost_gae_lambda": 0.5}, {"cost_gae_warmup": 4 * EPOCH}):
        seen.clear()
        list(train(tiny(total_steps=EPOCH, **lone)))
        assert seen == [lone.get("cost_gae_lambda")]
