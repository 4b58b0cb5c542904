"""Draws the course's static figures: `make figures`, or `python figures/draw.py --out FOLDER`.

The pictures are those of the notebooks, made by the same functions from the same numbers: the
first two digits of a file's name are the notebook's. Learning curves are drawn of the stored runs
in `figures/runs/`.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kfcpo_lib import bandits, clinic, controllers, faults, rollouts, sharing_study
from kfcpo_lib import kfac_study as study
from kfcpo_lib.ablations import read_kept
from kfcpo_lib.benchmarks import parts
from kfcpo_lib.benchmarks.frontier import STORED, read_run
from kfcpo_lib.cmdp import FLOODED_TOWN, solve
from kfcpo_lib.gaits import watch_gait
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.plots import (
    ablations,
    blending,
    cmdps,
    from_scratch,
    frontier,
    kfac,
    natural_gradients,
    rollback,
    start,
    studio,
)
from kfcpo_lib.plots import clinic as charts
from kfcpo_lib.plots import evidence as rivals
from kfcpo_lib.plots.learning import save_learning_curves
from kfcpo_lib.plots.style import png
from kfcpo_lib.recordings import Recording
from kfcpo_lib.studies import learning_record, read_study, rules_of
from kfcpo_lib.tracks import middle_world, watch
from kfcpo_lib.widgets import policy_gradients
from kfcpo_lib.widgets.cmdps import draw_ascent_at, draw_front_at, flooded_town
from kfcpo_lib.widgets.kfac import draw_drift

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs"
DPI = 72  # small files; the notebooks show 100


def paths_in_three_coordinates() -> Figure:
    """Notebook 02: the natural gradient takes one path, however the policy is written."""
    begin = (0.0, -1.2)
    paths = {
        f"natural, in ({coordinates.name})": bandits.ascent_path(
            begin, 150, natural=True, coordinates=coordinates
        )
        for coordinates in bandits.COORDINATES.values()
    }
    return natural_gradients.landscape(paths, title="The natural gradient, written in three ways")


def balls_of_equal_kl() -> Figure:
    """Notebook 02: policies at one KL from nine others."""
    centres = [(mean, log_std) for log_std in (-1.5, -0.5, 0.5) for mean in (-2.0, 0.0, 2.0)]
    return natural_gradients.kl_balls(centres, delta=0.05)


def exact_and_kronecker() -> Figure:
    """Notebook 03: the Fisher matrix of a tiny network, and what K-FAC keeps of it."""
    policy, obs = study.tiny_policy(), study.states(400, seed=1)
    fisher, approximation = study.jacobian_fisher(policy, obs), KFAC(policy)
    approximation.update_factors(obs)
    dense, slices, order = (
        approximation.dense(),
        study.layer_slices(policy),
        study.tile_order(policy),
    )
    pictures = {"exact F": fisher, "K-FAC": dense, "F - K": fisher - dense}
    tidy = {name: matrix[order][:, order] for name, matrix in pictures.items()}
    return kfac.matrices(tidy, [where.start for where in slices.values()][1:], list(slices))


def policies_of_the_town() -> Figure:
    """Notebook 04: the best policy without a limit, and the one that tosses a coin."""
    town, _ = flooded_town()
    answers = {"no limit": solve(town).policy, "cost limit 2": solve(town, cost_limit=2.0).policy}
    return cmdps.draw_policies(FLOODED_TOWN, town, answers)


def two_agents() -> Figure:
    """Notebook 00: an unconstrained agent beside one that was told of a limit."""
    agents = {
        "unconstrained (TRPO)": "point_goal/trpo_0",
        "told of a limit (KFCPO)": "point_goal_long/kfcpo_0",
    }
    tracks = {name: watch(RUNS / run, worlds=20) for name, run in agents.items()}
    world = middle_world(*tracks.values())
    return start.draw_agents({name: played[world] for name, played in tracks.items()}, until=600)


def four_controllers() -> Figure:
    """Notebook 05: hard switch, soft switch, Lagrangian and margin-aware on one shore."""
    walk = controllers.ShoreWalk(conflict=0.6)
    kinds: dict[str, controllers.Controller] = {
        "CRPO: hard switch": controllers.HardSwitch(20.0),
        "PCRPO: soft switch": controllers.SoftSwitch(20.0, slack_low=-5.0, slack_high=0.0),
        "Lagrangian": controllers.Lagrangian(20.0, learning_rate=0.02),
        "KFCPO: margin-aware": controllers.MarginAware(20.0, margin_lambda=0.8, steepness_k=0.3),
    }
    traces = {name: controllers.simulate(walk, kind) for name, kind in kinds.items()}
    return blending.draw_controllers(traces, 20.0, 16.0)


def turned_run() -> Figure:
    """Notebook 08: a training whose margin was turned on its way, beside one left alone."""
    runs = {"turned": "lambda_09_then_05", "control": "lambda_09"}
    return studio.draw_instruments(
        {name: Recording.read(RUNS / "studio" / run) for name, run in runs.items()}
    )


def runs_on_point_goal() -> dict[str, list[Path]]:
    """Name -> folders of the long trainings on SafetyPointGoal1, a seed each.

    `near` are those whose cost looks less far ahead.
    """
    far, near = (
        rules_of([RUNS / study], "SafetyPointGoal1-v0") for study in ("point_goal", "look_ahead")
    )
    return dict(sorted((far | {f"{rule}, near": runs for rule, runs in near.items()}).items()))


def learning_of_rules() -> Figure:
    """Notebook 09: return and cost of a few rules while they learn SafetyPointGoal1."""
    runs = runs_on_point_goal()
    return rivals.draw_learning(
        {
            name: [learning_record(run) for run in runs[name]]
            for name in ("cpo", "kfcpo", "kfcpo, near", "trpo_lag, near")
        }
    )


def return_against_cost() -> Figure:
    """Notebook 09: where these rules end, after the same number of steps."""
    return rivals.draw_pareto(_ends(runs_on_point_goal()), limit=25.0)


def other_tasks() -> Figure:
    """Notebook 09: where rules end on tasks that they were not tuned on."""
    studies = {
        "SafetyCarGoal1-v0": "other_tasks",
        "SafetyPointButton1-v0": "other_tasks",
        "SafetyCarButton1-v0": "car_button",
    }
    runs = {task: rules_of([RUNS / study], task) for task, study in studies.items()}
    return rivals.draw_tasks({task: _ends(found) for task, found in runs.items() if found}, 25.0)


def _ends(runs: dict[str, list[Path]]) -> dict[str, tuple[rivals.Point, rivals.Point]]:
    """Final return and cost over the seeds of each, after as many steps as all runs have."""
    folders = [folder for found in runs.values() for folder in found]
    common = min(int(learning_record(folder)["env_steps"].iloc[-1]) for folder in folders)
    points = {}
    for name, found in runs.items():
        table = read_study(found, until=common)
        gain, bill = (
            rivals.point_of(table[column].to_numpy()) for column in ("final_return", "final_cost")
        )
        points[name] = gain, bill
    return points


def map_of_the_cost() -> Figure:
    """Notebook 10: the cost over the margin and the steepness, on the point mass."""
    kept = read_kept("weights")["PointMass-v0"]
    return ablations.draw_map(kept, "episodic cost", "mean", kept.common_seeds)


def flipped_cost() -> Figure:
    """Notebook 11: the weight goes to one, and the cost climbs: a sign is wrong."""
    stored = clinic.read_stored()
    return charts.draw_chart(stored["flipped_cost_sign"], stored["healthy"], window=3)


def end_or_cut() -> Figure:
    """Notebook 11: what GAE says of a world without an end that is cut after 200 steps."""
    reward = np.ones((200, 1))
    value, never, cut = reward / (1 - 0.99), reward < 0, np.arange(200)[:, None] == 199
    world = (reward, value, value, never, cut, 0.99, 0.95)
    ways = {"truncation has a future": rollouts.gae, "taken for an end": faults.truncation_as_end}
    return charts.draw_end_of_episode({name: gae(*world)[:, 0] for name, gae in ways.items()})


def expand_or_reduce() -> Figure:
    """Notebook 12: where either way of sharing weights is exact."""
    pictures = sharing_study.pictures(200, size=4)
    errors: dict[str, dict[str, float]] = {"expand": {}, "reduce": {}}
    for reads, bend in itertools.product(sharing_study.READS, reversed(sharing_study.BENDS)):
        blocks = sharing_study.blocks(sharing_study.SharedPolicy(4, reads, bend), pictures)
        for way in errors:
            errors[way][f"{reads},\n{bend}"] = blocks.error(way)
    return frontier.sharing_errors(errors)


def memory() -> Figure:
    """Notebook 12: through flickering eyes, with a memory and without."""
    runs = {"GRU, window of 8": "flicker_gru", "MLP, one moment": "flicker_now"}
    return frontier.trainings({name: read_run(run) for name, run in runs.items()})


def cheetah() -> Figure:
    """Notebook 12: a running robot with a limit on its effort, and one without."""
    runs = {"no limit": "cheetah_free", "limit on effort": "cheetah"}
    return frontier.gaits({name: watch_gait(STORED / run, steps=140) for name, run in runs.items()})


FIGURES: dict[str, Callable[[], Figure]] = {
    "00_two_agents": two_agents,
    "00_lidar": lambda: start.draw_lidar(distance=1.5, angle=0.0),
    "01_baseline": lambda: policy_gradients.draw_estimates_at(batch_size=10, reward_offset=4.0),
    "01_gae": lambda: policy_gradients.draw_gae_at(gae_lambda=0.9, critic_error=0.5),
    "02_paths": paths_in_three_coordinates,
    "02_balls": balls_of_equal_kl,
    "03_matrices": exact_and_kronecker,
    "03_drift": lambda: draw_drift(log_damping=-2.0, decay=0.8, inverse_period=1),
    "04_policies": policies_of_the_town,
    "04_front": lambda: draw_front_at(cost_limit=2.0, slip=0.1),
    "04_ascent": lambda: draw_ascent_at(log10_rate=-2.25, cost_limit=2.0, iterations=100),
    "05_blend": lambda: blending.draw_blending(0.8, -0.5, 25.0, 125.0, "project_cost"),
    "05_controllers": four_controllers,
    "06_two_kls": lambda: rollback.draw_gaussians(shift=0.0, log_ratio=-1.0),
    "06_drift": lambda: rollback.draw_drift(0.01, -3.0, True, "minibatch", 0.5),
    "07_map": from_scratch.draw_map,
    "07_parts": lambda: from_scratch.draw_parts(parts.read_parts()),
    "08_turned": turned_run,
    "09_learning": learning_of_rules,
    "09_pareto": return_against_cost,
    "09_tasks": other_tasks,
    "09_luck": lambda: rivals.draw_luck(seeds=3, gap=2.0, spread=4.0),
    "10_map": map_of_the_cost,
    "10_winner": lambda: ablations.draw_winner(settings=9, seeds=3, spread=2.0),
    "11_chart": flipped_cost,
    "11_truncation": end_or_cut,
    "12_sharing": expand_or_reduce,
    "12_memory": memory,
    "12_cheetah": cheetah,
}


def draw_all(out: Path) -> None:
    """Draw every figure into a folder; the demonstration's as the command line draws it."""
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (out / f"{name}.png").write_bytes(png(draw(), dpi=DPI))
    save_learning_curves([RUNS / "demo"], out / "demo.png")


def main(words: Sequence[str] | None = None) -> int:
    """Draw every figure; says where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args(words).out
    draw_all(out)
    print(f"{len(list(out.glob('*.png')))} figures in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
