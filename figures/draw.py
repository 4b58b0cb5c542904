"""Draws the course's static figures: `make figures`, or `python figures/draw.py --out FOLDER`.

The pictures are those of the notebooks, made by the same functions from the same numbers: the
first two digits of a file's name are the notebook's. Learning curves are drawn of the stored runs
in `figures/runs/`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from kfcpo_lib import bandits, controllers
from kfcpo_lib import kfac_study as study
from kfcpo_lib.benchmarks import parts
from kfcpo_lib.cmdp import FLOODED_TOWN, solve
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.plots import blending, cmdps, from_scratch, kfac, natural_gradients, rollback, start
from kfcpo_lib.plots.learning import save_learning_curves
from kfcpo_lib.plots.style import png
from kfcpo_lib.tracks import watch
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
    agents = {"unconstrained (TRPO)": "trpo", "told of a limit (KFCPO)": "kfcpo"}
    tracks = {name: watch(RUNS / "rivals" / run)[0] for name, run in agents.items()}
    return start.draw_agents(tracks, until=600)


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
