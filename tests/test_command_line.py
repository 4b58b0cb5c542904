"""The command line: a sentence and exit code 2 for what cannot be done, a bar for what goes on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY_LINE, SpoiltPointMass, content, files, spoilt, tiny

import kfcpo_lib.__main__
from kfcpo_lib import TrainConfig, train
from kfcpo_lib.__main__ import main
from kfcpo_lib.records import config_to_dict
from kfcpo_lib.runs import count_rows, read_config, read_policy

__all__ = ["spoilt"]
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    list(train(tiny(folder)))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def call(line: str) -> int:
    """Exit code of a command, whichever way it ends."""
    try:
        return main(line.split())
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def refuses(capsys: Output, line: str, *words: str) -> None:
    """Exit code 2, the words on stderr, and no traceback."""
    capsys.readouterr()
    assert call(line) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in words:
        assert word in message


# --------------------------------------------------------------------------------------- training


def test_the_command_line_trains_what_train_trains(
    tmp_path: Path, finished: Path, capsys: Output
) -> None:
    assert call(f"{TINY_LINE} --out {tmp_path}/run") == 0
    assert content(tmp_path / "run") == content(finished)
    assert capsys.readouterr().out == f"the run is in {tmp_path}/run\n"


def test_the_command_line_has_the_defaults_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    monkeypatch.setattr(
        kfcpo_lib.__main__, "train", lambda config, resume: seen.append(config) or ()
    )
    assert call("train") == 0
    assert seen == [TrainConfig()]


def test_every_setting_has_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    monkeypatch.setattr(
        kfcpo_lib.__main__, "train", lambda config, resume: seen.append(config) or ()
    )
    expected = TrainConfig(
        algorithm="trpo_lag", env_id="PointMass-v0", total_steps=7, seed=3, cost_limit=1.5,
        margin_lambda=0.5, steepness_k=2.5, kl_limit=0.25, num_envs=2, steps_per_epoch=4,
        steepness_warmup=8, kl_halving=5, limit_share=0.625, margin_rate=0.75, cost_gae_warmup=11,
        stagger=False, hidden_sizes=(3, 5), network="gru", log_std_start=-1.5, discount=0.5,
        gae_lambda=0.25, cost_gae_lambda=0.125,
        critic_learning_rate=0.125, critic_passes=2, critic_minibatch=6,
        episodic_cost_window=9, rule={"damping": 0.75, "natural_gradient": "kfac"},
        run_dir="somewhere", policy_snapshots=4, env_threads=2, device="cpu",
    )  # fmt: skip
    default = config_to_dict(TrainConfig())
    same = {name for name, value in config_to_dict(expected).items() if value == default[name]}
    assert same == {"device"}
    assert call(
        "train --algorithm trpo_lag --env PointMass-v0 --steps 7 --seed 3 --cost-limit 1.5 "
        "--margin-lambda 0.5 --steepness-k 2.5 --kl-limit 0.25 --num-envs 2 --steps-per-epoch 4 "
        "--steepness-warmup 8 --kl-halving 5 --limit-share 0.625 --margin-rate 0.75 "
        "--cost-gae-warmup 11 "
        "--no-stagger --hidden-sizes 3 5 --network gru --log-std-start -1.5 --discount 0.5 "
        "--gae-lambda 0.25 --cost-gae-lambda 0.125 "
        "--critic-learning-rate 0.125 --critic-passes 2 --critic-minibatch 6 "
        "--episodic-cost-window 9 --rule damping=0.75 --rule natural_gradient=kfac "
        "--out somewhere --policy-snapshots 4 --env-threads 2 --device cpu"
    ) == 0  # fmt: skip
    assert seen == [expected]


def test_the_bar_shows_return_cost_limit_kl_rollbacks_speed_and_time_left(capsys: Output) -> None:
    assert call(TINY_LINE) == 0
    updates = re.split(r"[\r\n]+", capsys.readouterr().err.strip())
    number = r"(nan|-?\d+\.\d+)"
    assert re.search(
        rf"100%.*1\.20k/1\.20k \[\d\d:\d\d<\d\d:\d\d, .*step/s, return {number}, "
        rf"cost {number} of 25, KL 0\.\d{{4}}, rollbacks \d/2\]",
        updates[-1],
    )
    assert updates[0].strip().startswith("0%")


def test_the_bar_of_a_resumed_run_starts_where_the_run_stopped(run: Path, capsys: Output) -> None:
    assert call(f"train --out {run} --resume --steps 1600") == 0
    updates = re.split(r"[\r\n]+", capsys.readouterr().err.strip())
    assert updates[0].strip().startswith("75%")
    assert "1.20k/1.60k [00:00<?" in updates[0]
    assert updates[-1].strip().startswith("100%")


def test_refused_numbers_are_told(spoilt: type[SpoiltPointMass], capsys: Output) -> None:
    spoilt.at = frozenset({60})
    assert call(TINY_LINE) == 0
    assert "step 400: 1 non-finite numbers refused" in capsys.readouterr().out


# --------------------------------------------------------------------------------------- resuming


def test_resuming_needs_nothing_but_the_folder(
    tmp_path: Path, finished: Path, capsys: Output
) -> None:
    for report in train(tiny(tmp_path / "run")):
        if report.epoch == 3:
            break
    assert call(f"train --out {tmp_path}/run --resume") == 0
    assert content(tmp_path / "run") == content(finished)


def test_resuming_a_finished_run_says_so_and_changes_nothing(run: Path, capsys: Output) -> None:
    before = files(run)
    for more in ("", " --steps 1200", " --steps 400"):
        assert call(f"train --out {run} --resume{more}") == 0
        said = capsys.readouterr().out
        assert said == f"{run} is finished: it has its 1200 steps; --steps asks for more\n"
    assert files(run) == before


@pytest.mark.parametrize(
    ("option", "named"),
    [("--seed 1", "seed was 0, now 1"),
     ("--cost-limit 3", "cost_limit was 25.0, now 3.0"),
     ("--algorithm trpo", "algorithm was 'kfcpo', now 'trpo'"),
     ("--rule damping=0.5", "rule was {'minibatch_size': 100}, now"),
     ("--hidden-sizes 8 8", "hidden_sizes was [8], now [8, 8]")],
)  # fmt: skip
def test_resuming_with_another_setting_is_refused(
    option: str, named: str, run: Path, capsys: Output
) -> None:
    before = files(run)
    refuses(capsys, f"train --out {run} --resume --steps 2000 {option}", "error:", named)
    assert files(run) == before


def test_a_folder_that_holds_a_run_is_not_written_again(run: Path, capsys: Output) -> None:
    before = files(run)
    refuses(capsys, f"{TINY_LINE} --out {run}", f"{run} holds a run already", "--resume")
    assert files(run) == before


def test_resuming_without_a_folder_is_refused(capsys: Output) -> None:
    refuses(capsys, "train --resume", "--resume needs --out")


def test_a_damaged_checkpoint_is_refused(run: Path, capsys: Output) -> None:
    os.truncate(run / "checkpoint.pt", 1000)
    before = files(run)
    refuses(capsys, f"train --out {run} --resume --steps 2000", "checkpoint.pt is damaged")
    assert files(run) == before


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "--env SafetyPointGaol1-v0",
            ["unknown environment 'SafetyPointGaol1-v0'", "did you mean"],
        ),
        ("--algorithm dqn", ["unknown algorithm 'dqn'", "kfcpo"]),
        ("--margin-lambda 0", ["margin_lambda must be in (0, 1], got 0.0"]),
        ("--margin-lambda 1.5", ["margin_lambda must be in (0, 1], got 1.5"]),
        ("--margin-lambda nan", ["margin_lambda must be in (0, 1], got nan"]),
        ("--steepness-k 0", ["steepness_k must be a positive finite number, got 0.0"]),
        ("--steepness-k -1", ["steepness_k must be a positive finite number, got -1.0"]),
        ("--cost-limit 0", ["cost_limit must be a positive finite number, got 0.0"]),
        ("--kl-limit -0.01", ["kl_limit must be a positive finite number, got -0.01"]),
        ("--kl-limit inf", ["kl_limit must be a positive finite number, got inf"]),
        ("--seed -1", ["seed must be an integer of at least 0, got -1"]),
        ("--seed 200000", ["seed must be an integer of at most 199999, got 200000"]),
        ("--steps 0", ["total_steps must be an integer of at least 1, got 0"]),
        ("--steps 1e6", ["--steps", "'1e6'"]),
        ("--num-envs 3", ["steps_per_epoch must be a multiple of num_envs, got 200 and 3"]),
        ("--hidden-sizes 8 0", ["hidden_sizes must be an integer of at least 1, got 0"]),
        ("--device tpu", ["device 'tpu' cannot be used here", "cpu"]),
        ("--device meta", ["device must be 'cpu' or 'cuda', got 'meta'"]),
        ("--rule speed=3", ["kfcpo has no setting 'speed'", "minibatch_size"]),
        ("--rule damping", ["--rule takes NAME=VALUE, got 'damping'"]),
        ("--rule damping=nan", ["damping must be finite, got 'nan'"]),
        ("--rule damping=-1", ["damping must be", "got -1.0"]),
        ("--rule minibatch_size=2.5", ["minibatch_size must be int, got '2.5'"]),
        ("--rule adaptive_delta=maybe", ["adaptive_delta must be true or false, got 'maybe'"]),
        ("--rule conflict=ignore", ["conflict must be one of project_cost", "got 'ignore'"]),
        ("--speed 3", ["unknown option --speed 3"]),
        ("--kl 0.1", ["unknown option --kl 0.1"]),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(
    options: str, words: list[str], tmp_path: Path, capsys: Output
) -> None:
    refuses(capsys, f"{TINY_LINE} --out {tmp_path}/run {options}", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "dance", "evaluate", "train --out"])
def test_half_a_command_is_refused(line: str, capsys: Output) -> None:
    refuses(capsys, line, "usage: python -m kfcpo_lib")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").touch()
    line = f"{TINY_LINE} --out {tmp_path}/file/run"
    refuses(capsys, line, f"cannot write {tmp_path}/file/run", "name a writable folder")


def test_a_full_disk_stops_with_advice_and_what_was_saved_is_kept(
    run: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    words = ["No space left on device", "safe up to epoch 7", "make room and resume it (--resume)"]
    refuses(capsys, f"train --out {run} --resume --steps 4000", *words)
    monkeypatch.setattr(os, "fsync", fsync)
    assert call(f"train --out {run} --resume --steps 1600") == 0


def test_a_spoilt_simulator_stops_with_a_sentence_that_names_the_checkpoint(
    tmp_path: Path, spoilt: type[SpoiltPointMass], capsys: Output
) -> None:
    spoilt.what, spoilt.at = "obs", frozenset({120})
    line = f"{TINY_LINE} --out {tmp_path}/run"
    words = [
        "error: environment 1 of PointMass-v0 returned an observation that is not finite",
        f"{tmp_path}/run is safe up to epoch 2",
    ]
    refuses(capsys, line, *words)
    assert count_rows(tmp_path / "run" / "progress.csv") == 2
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_an_interrupted_training_says_how_to_go_on(
    tmp_path: Path, spoilt: type[SpoiltPointMass], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(spoilt, "step", interrupt)
    assert call(f"{TINY_LINE} --out {tmp_path}/run") == 130
    assert capsys.readouterr().err.endswith("interrupted; go on with --resume\n")
    assert call(TINY_LINE) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert spoilt.closed == 2


# -------------------------------------------------------------------------------------- evaluating


def test_evaluating_prints_both_kinds_of_actions(finished: Path, capsys: Output) -> None:
    assert call(f"evaluate {finished} --episodes 2 --seed 5") == 0
    sampled, mean = capsys.readouterr().out.splitlines()
    assert sampled.startswith("sampled actions, 2 episodes: return")
    assert mean.startswith("mean actions, 2 episodes: return")


def test_evaluating_nothing_or_something_damaged_is_refused(
    run: Path, tmp_path: Path, capsys: Output
) -> None:
    refuses(
        capsys, f"evaluate {run} --episodes 0", "episodes must be an integer of at least 1, got 0"
    )
    refuses(capsys, f"evaluate {run} --seed -4", "seed must be", "got -4")
    refuses(capsys, f"evaluate {tmp_path}/none", f"{tmp_path}/none/policy.pt does not exist")
    stored = read_policy(run)
    stored["policy"]["log_std"][0] = torch.nan
    torch.save(stored, run / "policy.pt")
    refuses(capsys, f"evaluate {run}", "policy.pt", "log_std holds numbers that are not finite")


# ------------------------------------------------------------------------------- as another process


def command(line: str) -> list[str]:
    return [sys.executable, "-m", "kfcpo_lib", *line.split()]


def test_a_real_command_that_is_refused_ends_with_code_2_and_one_line() -> None:
    done = subprocess.run(command("train --margin-lambda 2"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: margin_lambda must be in (0, 1], got 2.0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_real_command_that_is_killed_is_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    """And while it runs, no other may write its folder."""
    killed, longer = tmp_path / "killed", TINY_LINE.replace("--steps 1200", "--steps 20000")
    process = subprocess.Popen(
        command(f"{longer} --out {killed}"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and count_rows(killed / "progress.csv") < 3:
        time.sleep(0.01)
    assert call(f"train --out {killed} --resume") == 2
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    steps = (count_rows(killed / "progress.csv") + 6) * 200
    assert steps < 20_000
    assert call(f"train --out {killed} --resume --steps {steps}") == 0
    assert read_config(killed)["settings"]["total_steps"] == steps
    list(train(tiny(tmp_path / "whole", total_steps=steps)))
    assert content(killed) == content(tmp_path / "whole")


def test_bench_names_its_benchmarks(capsys: Output) -> None:
    assert call("bench --help") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in kfcpo_lib.__main__.BENCHMARKS)
    assert call("bench") == 2
    assert "takes the name of a benchmark: one of depth, env" in capsys.readouterr().err
