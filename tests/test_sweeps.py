"""Sweeps: nothing is done twice, nothing that is killed is lost, every backend's numbers agree."""

import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_command_line import Output, call, refuses
from tiny_runs import EPOCH, TINY, content, files

import kfcpo_lib.sweeps
from kfcpo_lib import train
from kfcpo_lib.runs import count_rows, lock, read_evaluation
from kfcpo_lib.specs import Spec, plan
from kfcpo_lib.sweeps import (
    Job,
    Outcome,
    Outcomes,
    carry_out,
    is_finished,
    jobs_of,
    local_backend,
    ray_backend,
    states,
    sweep,
)

RULES = ("kfcpo", "trpo_lag", "ppo_lag")


def tiny_spec(*rules: str, **changes: Any) -> Spec:
    settings = {name: TINY[name] for name in TINY if name != "rule"} | changes
    return plan(
        {
            "seeds": [3],
            "evaluation_episodes": 2,
            "common": settings,
            "configurations": {rule: {"algorithm": rule} for rule in rules},
        }
    )


def in_this_process(jobs: Sequence[Job]) -> Outcomes:
    for job in jobs:
        carry_out(job)
        yield [(job, None)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep that nobody disturbed."""
    out = tmp_path_factory.mktemp("sweep")
    assert sweep(tiny_spec(*RULES), out, in_this_process) == []
    return out


@pytest.fixture
def copy(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "copy"))


def assert_same_runs(out: Path, expected: Path, *rules: str) -> None:
    for rule in rules:
        assert content(out / f"{rule}_3") == content(expected / f"{rule}_3")
        assert read_evaluation(out / f"{rule}_3").equals(read_evaluation(expected / f"{rule}_3"))


# ------------------------------------------------------------------------------- what it leaves


def test_a_sweep_trains_and_evaluates_every_run_and_makes_one_table(swept: Path) -> None:
    table = pd.read_csv(swept / "results.csv")
    assert table["run"].tolist() == [f"{rule}_3" for rule in RULES]
    assert table["configuration"].tolist() == table["algorithm"].tolist() == list(RULES)
    assert (table["env_steps"] == TINY["total_steps"]).all()
    evaluation = read_evaluation(swept / "kfcpo_3")
    sampled = evaluation[evaluation["actions"] == "sampled"]
    assert len(sampled) == 2
    assert table["sampled_cost"][0] == pytest.approx(sampled["episode_cost"].mean())


def test_the_grid_stands_in_the_table(tmp_path: Path) -> None:
    settings = {name: TINY[name] for name in TINY if name != "rule"}
    asked = {"seeds": [0], "evaluation_episodes": 1, "common": settings}
    spec = plan(asked | {"grid": {"kl_limit": [0.01, 0.02]}})
    sweep(spec, tmp_path, in_this_process)
    assert pd.read_csv(tmp_path / "results.csv")["kl_limit"].tolist() == [0.01, 0.02]


def test_what_is_finished_is_not_repeated(copy: Path) -> None:
    asked: list[str] = []

    def note(jobs: Sequence[Job]) -> Outcomes:
        asked.extend(job.folder.name for job in jobs)
        yield []

    before = files(copy)
    assert sweep(tiny_spec(*RULES), copy, note) == []
    assert asked == []
    assert files(copy) == before
    (copy / "trpo_lag_3" / "evaluation.csv").unlink()
    sweep(tiny_spec(*RULES, total_steps=1200), copy, note)
    assert asked == ["trpo_lag_3"]
    sweep(tiny_spec("kfcpo", total_steps=1400), copy, note)
    assert asked == ["trpo_lag_3", "kfcpo_3"]


def test_more_steps_continue_the_runs_and_evaluate_them_anew(copy: Path, tmp_path: Path) -> None:
    longer = tiny_spec("kfcpo", total_steps=8 * EPOCH)
    sweep(longer, copy, in_this_process)
    sweep(longer, tmp_path / "fresh", in_this_process)
    assert_same_runs(copy, tmp_path / "fresh", "kfcpo")


def test_a_folder_that_holds_another_run_is_refused(copy: Path) -> None:
    before = files(copy)
    with pytest.raises(ValueError, match=r"kfcpo_3 was started otherwise: kl_limit was 0.01"):
        sweep(tiny_spec("kfcpo", kl_limit=0.02), copy, in_this_process)
    assert files(copy) == before


def test_two_sweeps_do_not_work_in_one_folder(copy: Path) -> None:
    with open(copy / ".lock", "ab") as file:
        lock(file)
        with pytest.raises(BlockingIOError, match="another sweep is at work in"):
            sweep(tiny_spec("kfcpo"), copy, in_this_process)


def test_a_damaged_run_does_not_hold_up_the_others(copy: Path) -> None:
    def one_by_one(jobs: Sequence[Job]) -> Outcomes:
        for job in jobs:
            trouble = None
            try:
                carry_out(job)
            except ValueError as error:
                trouble = str(error)
            yield [(job, trouble)]

    (copy / "kfcpo_3" / "checkpoint.pt").write_bytes(b"")
    (copy / "trpo_lag_3" / "evaluation.csv").unlink()
    spec = tiny_spec(*RULES)
    [(job, trouble)] = sweep(spec, copy, one_by_one)
    assert job.folder.name == "kfcpo_3" and "checkpoint.pt is damaged" in str(trouble)
    assert is_finished(jobs_of(spec, copy)[1])
    assert "kfcpo_3: 1,200 of 1,200 steps" in states(spec, copy)


# ------------------------------------------------------------------------------- local processes


@pytest.fixture
def fast_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfcpo_lib.sweeps, "TICK", 0.01)


def kill_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def test_killed_half_done_and_broken_runs(
    swept: Path, copy: Path, fast_ticks: None, tmp_path: Path
) -> None:
    """The first worker is killed, one run is half done already, and one cannot be resumed."""
    spec, out = tiny_spec(*RULES), tmp_path / "out"
    half_done = jobs_of(spec, out)[1]
    reports = train(half_done.config)
    next(reports), next(reports)
    reports.close()  # type: ignore[attr-defined]
    shutil.move(copy / "ppo_lag_3", out / "ppo_lag_3")
    (out / "ppo_lag_3" / "evaluation.csv").unlink()
    (out / "ppo_lag_3" / "policy.pt").write_bytes(b"")
    killed: list[bool] = []

    def backend(jobs: Sequence[Job]) -> Outcomes:
        for outcomes in local_backend(workers=2)(jobs):
            if not killed:
                kill_workers()  # they are still importing PyTorch
                killed.append(True)
            yield outcomes

    [(job, trouble)] = sweep(spec, out, backend)
    assert killed
    assert job.folder.name == "ppo_lag_3"
    assert "policy.pt is damaged" in str(trouble)
    assert_same_runs(out, swept, "kfcpo", "trpo_lag")
    assert len(pd.read_csv(out / "results.csv")) == 2


def test_a_worker_that_is_killed_every_time_is_given_up(
    tmp_path: Path, fast_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kfcpo_lib.sweeps, "RESTARTS", 1)
    outcomes: list[Outcome] = []
    for some in local_backend(workers=1)(jobs_of(tiny_spec("kfcpo"), tmp_path)):
        kill_workers()
        outcomes += some
    [(_, trouble)] = outcomes
    assert trouble == "its worker was killed, again and again"


LONG = 300 * EPOCH


@pytest.mark.full
def test_a_worker_killed_in_the_middle_of_training_loses_nothing(
    tmp_path: Path, fast_ticks: None
) -> None:
    spec, kills, outcomes = tiny_spec("kfcpo", total_steps=LONG), 0, list[Outcome]()
    (tmp_path / "killed").mkdir()
    for some in local_backend(workers=1)(jobs_of(spec, tmp_path / "killed")):
        outcomes += some
        rows = count_rows(tmp_path / "killed" / "kfcpo_3" / "progress.csv")
        if rows > 60 * (kills + 1) and kills < 3:
            kill_workers()
            kills += 1
    assert [trouble for _, trouble in outcomes] == [None]
    assert kills == 3
    sweep(spec, tmp_path / "whole", in_this_process)
    assert_same_runs(tmp_path / "killed", tmp_path / "whole", "kfcpo")


SPEC = """
seeds = [3]
evaluation_episodes = 2
[common]
env_id = "PointMass-v0"
num_envs = 4
steps_per_epoch = 200
total_steps = {steps}
hidden_sizes = [8]
critic_passes = 1
critic_minibatch = 100
policy_snapshots = 2
[configurations.kfcpo]
"""


@pytest.mark.full
def test_a_sweep_killed_in_the_middle_goes_on(tmp_path: Path) -> None:
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    path.write_text(SPEC.format(steps=LONG))
    command = [sys.executable, "-m", "kfcpo_lib", "sweep", str(path), "--out", str(out)]
    process = subprocess.Popen(command)
    while count_rows(out / "kfcpo_3" / "progress.csv") < 30:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert call(f"sweep {path} --out {out}") == 0  # waits for the worker, which dies too
    sweep(tiny_spec("kfcpo", total_steps=LONG), tmp_path / "whole", in_this_process)
    assert_same_runs(out, tmp_path / "whole", "kfcpo")


# ------------------------------------------------------------------------------- the command line


def test_the_command_line_lists_and_finishes(copy: Path, tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(SPEC.format(steps=1200))
    assert call(f"sweep {path} --out {copy} --list") == 0
    assert capsys.readouterr().out == "kfcpo_3: finished\n"
    assert call(f"sweep {path} --out {tmp_path / 'new'} --list") == 0
    assert capsys.readouterr().out == "kfcpo_3: 0 of 1,200 steps\n"
    assert call(f"sweep {path} --out {copy}") == 0
    assert f"1 runs are finished: {copy / 'results.csv'}" in capsys.readouterr().out


def test_the_command_line_refuses_in_a_sentence(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("seeds = [")
    refuses(capsys, f"sweep {path}", "bad.toml is not readable as TOML")
    refuses(capsys, f"sweep {tmp_path / 'absent.toml'}", "absent.toml")
    path.write_text(SPEC.format(steps=-1))
    refuses(capsys, f"sweep {path}", "total_steps must be an integer of at least 1, got -1")
    refuses(capsys, f"sweep {path} --jobs 0", "must be an integer of at least 1, got '0'")
    refuses(capsys, f"sweep {path} --nice -1", "must be an integer from 0 to 19, got '-1'")


def test_the_command_line_tells_of_failures(copy: Path, tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(SPEC.format(steps=1200))
    (copy / "kfcpo_3" / "checkpoint.pt").write_bytes(b"")
    refuses(capsys, f"sweep {path} --out {copy} --jobs 1", "checkpoint.pt is damaged")


# -------------------------------------------------------------------------------------------- Ray


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of a head without processors; a machine too busy to start one is no failure."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install ray)")
    from ray.cluster_utils import Cluster

    here = Path(kfcpo_lib.sweeps.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", str(here))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster()
    try:
        add_node(started, num_cpus=0)
        yield started
    finally:
        started.shutdown()


def add_node(cluster: Any, num_cpus: int) -> Any:
    try:
        return cluster.add_node(
            num_cpus=num_cpus, object_store_memory=80 * 2**20, include_dashboard=False
        )
    except Exception as error:
        pytest.skip(f"Ray could not start a node here: {error}")


def test_ray_brings_the_same_numbers(cluster: Any, swept: Path, tmp_path: Path) -> None:
    add_node(cluster, num_cpus=1)
    backend = ray_backend(cluster.address)
    assert sweep(tiny_spec("kfcpo", "trpo_lag"), tmp_path, backend) == []
    assert_same_runs(tmp_path, swept, "kfcpo", "trpo_lag")


def test_without_ray_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "tiny.toml"
    path.write_text(SPEC.format(steps=1200))
    refuses(capsys, f"sweep {path} --ray auto", "--ray needs Ray: pip install ray")


@pytest.mark.full
def test_a_node_killed_in_the_middle_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    nodes = [add_node(cluster, num_cpus=1) for _ in range(2)]
    spec = tiny_spec("kfcpo", "trpo_lag", total_steps=LONG)
    killed: list[Any] = []

    def backend(jobs: Sequence[Job]) -> Outcomes:
        for outcomes in ray_backend(cluster.address)(jobs):
            rows = [count_rows(job.folder / "progress.csv") for job in jobs]
            if not killed and min(rows) > 30:
                assert max(rows) < 300, "both runs are in their middle"
                cluster.remove_node(nodes[0], allow_graceful=False)
                killed.append(nodes[0])
            yield outcomes

    assert sweep(spec, tmp_path / "ray", backend) == []
    assert killed
    assert all(is_finished(job) for job in jobs_of(spec, tmp_path / "ray"))
    sweep(spec, tmp_path / "here", in_this_process)
    assert_same_runs(tmp_path / "ray", tmp_path / "here", "kfcpo", "trpo_lag")
