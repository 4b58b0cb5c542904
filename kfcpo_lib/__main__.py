"""`python -m kfcpo_lib` train, sweep, store, evaluate, diagnose, plot, bench, grade."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kfcpo_lib.algorithms import RULES, rule_settings
from kfcpo_lib.envs.crew import available_processors
from kfcpo_lib.grading.limits import Limits
from kfcpo_lib.records import EpochReport, TrainConfig, config_to_dict
from kfcpo_lib.runs import check_same_run, count_rows, read_train_config
from kfcpo_lib.training import train

RENAMED = {"env_id": "env", "total_steps": "steps", "run_dir": "out"}
"""Settings whose option has a shorter name than their field."""
NOT_OPTIONS = ("rule",)
BENCHMARKS = ("depth", "env", "minibatches", "noise", "rules", "studio", "toy", "train", "update")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 with a sentence on stderr if it did not.

    `grade` ends with 1 if an exercise is not passed.
    """
    options, rest = _parser().parse_known_args(words)
    if rest and options.command != "bench":
        _parser().error(f"unknown option {' '.join(rest)}")
    try:
        return int(options.run(options, rest) or 0)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        advice = "; go on with --resume" if "run_dir" in options else ""
        advice = "; the same command goes on" if options.command == "sweep" else advice
        print(f"interrupted{advice}", file=sys.stderr)
        return 130


def run_train(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Train, with a progress bar."""
    config = _train_config(options)
    reports = train(config, resume=options.resume)
    done, total = steps_done(config), config.epochs * config.steps_per_epoch
    if done >= total:
        print(f"{config.run_dir} is finished: it has its {done} steps; --steps asks for more")
        return
    with tqdm(total=total, initial=done, unit="step", unit_scale=True) as bar:
        for report in reports:
            bar.update(report.env_steps - bar.n)
            bar.set_postfix_str(summary(report))
            if report.nonfinite:
                bar.write(f"step {report.env_steps}: {report.nonfinite} non-finite numbers refused")
    if config.run_dir:
        print(f"the run is in {config.run_dir}")


def steps_done(config: TrainConfig) -> int:
    """Steps that the run in `run_dir` starts with, once `train` has opened it."""
    if config.run_dir is None:
        return 0
    return count_rows(Path(config.run_dir) / "progress.csv") * config.steps_per_epoch


def summary(report: EpochReport) -> str:
    """One line about an epoch, for the progress bar."""
    return (
        f"return {report.return_mean:.1f}, cost {report.episodic_cost_mean:.1f} "
        f"of {report.cost_limit:g}, KL {report.kl:.4f}, "
        f"rollbacks {report.rollbacks}/{report.minibatches}"
    )


def run_evaluate(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Play episodes with a stored policy, with sampled and with mean actions."""
    from kfcpo_lib.evaluation import ACTIONS, evaluate, store_evaluation, stored_evaluation

    if options.store:
        store_evaluation(options.run_folder, options.episodes)
        for actions in ACTIONS:
            print(stored_evaluation(options.run_folder, actions))
        return
    for actions in ACTIONS:
        print(evaluate(options.run_folder, options.episodes, actions, seed=options.seed))


def run_diagnose(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Say what ails stored runs, and what to try."""
    from kfcpo_lib.diagnosis import diagnose

    refused = []
    for folder in options.run_folders:
        try:
            print(f"{folder}\n{diagnose(folder)}")
        except (ValueError, OSError) as error:
            refused.append(str(error))
    if refused:
        raise ValueError("\nerror: ".join(refused))


def run_plot(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Draw the learning curves of stored runs."""
    from kfcpo_lib.plots import save_learning_curves

    save_learning_curves(options.run_folders, options.out)
    print(options.out)


def run_sweep(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Train and evaluate what a spec asks for and the sweep's folder does not hold yet."""
    from kfcpo_lib import sweeps
    from kfcpo_lib.ablations import keep_sweep
    from kfcpo_lib.specs import read_spec

    spec = read_spec(options.spec)
    out = options.out or Path("runs") / options.spec.stem
    if options.list:
        print(sweeps.states(spec, out))
    else:
        _carry_out_sweep(options, spec, out)
    if options.keep:
        print(keep_sweep(options.spec, out, options.keep))


def _carry_out_sweep(options: argparse.Namespace, spec: Any, out: Path) -> None:
    from kfcpo_lib import sweeps

    if options.ray is None:
        backend = sweeps.local_backend(options.jobs, options.nice)
    else:
        backend = sweeps.ray_backend(options.ray)
    failed = sweeps.sweep(spec, out, backend)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(spec.runs)} runs failed; the same command tries them again:\n"
            + "\n".join(f"{job.folder.name}: {trouble}" for job, trouble in failed)
        )
    print(f"{len(spec.runs)} runs are finished: {out / 'results.csv'}")


def run_store(options: argparse.Namespace, _: Sequence[str]) -> None:
    """Keep small copies of runs."""
    from kfcpo_lib.studies import store_run

    for folder in options.run_folders:
        print(store_run(folder, options.study))


def run_bench(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Run a benchmark script of `kfcpo_lib.benchmarks`, which reads its own words."""
    if options.what is None:
        names = f"one of {', '.join(BENCHMARKS)}"
        if not {"-h", "--help"} & set(rest):
            raise ValueError(f"bench takes the name of a benchmark: {names}")
        print(f"usage: python -m kfcpo_lib bench NAME [--help], with {names}")
        return
    import_module(f"kfcpo_lib.benchmarks.{options.what}").main(list(rest))


def run_grade(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Grade a folder of students' notebooks."""
    from kfcpo_lib.grading.grades import grade  # not above: students' processes import this module

    return grade(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands.add_parser("train", help="train a policy", allow_abbrev=False))

    command = commands.add_parser("evaluate", help="play episodes with a stored policy")
    command.set_defaults(run=run_evaluate)
    command.add_argument("run_folder", metavar="RUN", type=Path)
    command.add_argument("--episodes", type=int, default=100)
    seeds = command.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=None, help="default: seeds no training uses")
    seeds.add_argument("--store", action="store_true", help="keep it in RUN/evaluation.csv")

    command = commands.add_parser("diagnose", help="say what is wrong with runs, and what to try")
    command.set_defaults(run=run_diagnose)
    command.add_argument("run_folders", metavar="RUN", type=Path, nargs="+")

    command = commands.add_parser("plot", help="draw learning curves of runs")
    command.set_defaults(run=run_plot)
    command.add_argument("run_folders", metavar="RUN", type=Path, nargs="+")
    command.add_argument("--out", type=Path, default=Path("learning_curves.png"))

    _add_sweep(commands.add_parser("sweep", help="train and evaluate a grid of runs"))

    command = commands.add_parser("store", help="keep small copies of runs in a study's folder")
    command.set_defaults(run=run_store)
    command.add_argument("run_folders", metavar="RUN", type=Path, nargs="+")
    command.add_argument("study", metavar="STUDY", type=Path)

    command = commands.add_parser("bench", help="measure speed", add_help=False)
    command.set_defaults(run=run_bench)
    command.add_argument("what", choices=BENCHMARKS, nargs="?")

    _add_grade(commands.add_parser("grade", help="grade a folder of students' notebooks"))
    return parser


def _add_sweep(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_sweep)
    command.add_argument("spec", metavar="SPEC.toml", type=Path)
    command.add_argument("--out", type=Path, help="default: runs/SPEC")
    jobs = available_processors()
    command.add_argument("--jobs", type=_count, default=jobs, help="runs at a time")
    command.add_argument("--nice", type=_niceness, default=0, help="give way to others: 1 to 19")
    command.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster: HOST:PORT or auto")
    command.add_argument("--list", action="store_true", help="only say where every run stands")
    keep = "keep the tables of what is finished there, for the notebooks"
    command.add_argument("--keep", metavar="FOLDER", type=Path, help=keep)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def _niceness(text: str) -> int:
    if not text.isdecimal() or int(text) > 19:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 19, got {text!r}")
    return int(text)


def _add_grade(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_grade)
    command.add_argument("folder", metavar="FOLDER", type=Path)
    command.add_argument("--out", type=Path, help="the table as CSV (default: FOLDER/grades.csv)")
    jobs = max(1, available_processors() // 2)
    command.add_argument("--jobs", type=int, default=jobs, help="notebooks at once")
    for limit in fields(Limits):
        option = "--" + limit.name.replace("_", "-")
        command.add_argument(option, type=float, default=limit.default, help="default: %(default)s")


def _add_train(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_train)
    for setting in fields(TrainConfig):
        if setting.name not in NOT_OPTIONS:
            _add_setting(command, setting.name, setting.type, setting.default)
    command.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the update rule, such as damping=0.01; may be given again",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out with its own settings, or start it if there is none",
    )


def _add_setting(parser: argparse.ArgumentParser, name: str, kind: Any, default: Any) -> None:
    option = "--" + RENAMED.get(name, name).replace("_", "-")
    details: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    if name == "hidden_sizes":
        details |= {"type": int, "nargs": "+"}
    elif name == "stagger":
        details |= {"action": argparse.BooleanOptionalAction}
    elif name == "algorithm":
        details |= {"help": f"one of {', '.join(RULES)} (default: {default})"}
    else:
        details |= {
            "type": {int: int, int | None: int, float: float, float | None: float}.get(kind, str)
        }
    shown = "" if default is MISSING else f"default: {default}"
    parser.add_argument(option, **({"help": shown} | details))


def _train_config(options: argparse.Namespace) -> TrainConfig:
    """The configuration: defaults, or the stored run's when resuming, changed by the options."""
    given = {f.name: getattr(options, f.name) for f in fields(TrainConfig) if f.name in options}
    given.pop("rule")
    folder: str = given.get("run_dir", "")
    if options.resume and not folder:
        raise ValueError("--resume needs --out, the folder of the run")
    if options.resume and (Path(folder) / "config.json").exists():
        stored = read_train_config(folder)
        rule = dict(stored.rule) | _rule_changes(stored.algorithm, options.rule)
        config = read_train_config(folder, **given, rule=rule)
        check_same_run(config, config_to_dict(stored))
        return config
    algorithm = given.get("algorithm", TrainConfig.algorithm)
    return TrainConfig(**given, rule=_rule_changes(algorithm, options.rule))


def _rule_changes(algorithm: str, words: Sequence[str]) -> dict[str, Any]:
    """`name=value` words as settings, each value read as its default's type."""
    defaults = vars(rule_settings(algorithm, {}))
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"--rule takes NAME=VALUE, got {word!r}")
        if name not in defaults:
            raise ValueError(f"{algorithm} has no setting {name!r}; it has {', '.join(defaults)}")
        changes[name] = _read_as(name, value, defaults[name])
    return changes


def _read_as(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return text.lower() == "true"
    if isinstance(default, str):
        return text
    try:
        number = type(default)(text)
    except ValueError:
        raise ValueError(f"{name} must be {type(default).__name__}, got {text!r}") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
