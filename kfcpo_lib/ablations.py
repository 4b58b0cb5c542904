"""Ablations: sweeps kept small enough for the repository, and what their intervals say.

A kept sweep is three files, named after its spec: `NAME.csv` with a row for every finished run
(`sweeps.write_results`), `NAME_curves.csv` with a thinned learning curve of each, and `NAME.json`
with the spec, the versions and the revisions of the code that made them.
"""

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfcpo_lib.controllers import MarginAware, ShoreWalk, simulate
from kfcpo_lib.evidence import difference_interval, mean_interval, standing
from kfcpo_lib.runs import provenance, read_config, write_whole
from kfcpo_lib.specs import grid_names, plan, read_spec
from kfcpo_lib.studies import learning_record, thin
from kfcpo_lib.sweeps import write_results

Array = NDArray[np.float64]

KEPT = Path(__file__).parents[1] / "figures" / "runs" / "ablations"
CURVE_ROWS = 20
CURVE_COLUMNS = ["env_steps", "return_mean", "episodic_cost_mean", "cost_weight", "delta"]


@dataclass(frozen=True)
class Kept:
    """A kept sweep."""

    results: pd.DataFrame
    """A row a run: its configuration, its place in the grid, and `studies.summary`."""
    curves: pd.DataFrame
    """`run` and `CURVE_COLUMNS`: at most `CURVE_ROWS` rows a run."""
    spec: dict[str, Any]
    """What the sweep was asked for."""
    planned: int
    """How many settings that is."""

    @property
    def task(self) -> str:
        """Name of the world."""
        return str(self.spec["common"]["env_id"])

    @property
    def cost_limit(self) -> float:
        """The limit that every run was given."""
        return float(self.results["cost_limit"].iloc[0])

    @property
    def seeds(self) -> str:
        """How many of the planned seeds the settings have, in words."""
        counts = self._counts()
        found = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
        return f"{found} of {len(self.spec['seeds'])} seeds"

    @property
    def common_seeds(self) -> int:
        """How many seeds all planned settings share."""
        found = [set(rows["seed"]) for _, rows in self._by_setting()]
        return len(set.intersection(*found)) if len(found) == self.planned else 0

    def _counts(self) -> pd.Series:
        return self._by_setting()["seed"].nunique()

    def _by_setting(self) -> Any:
        """The rows of each setting; a configuration has no value in another one's grid."""
        return self.results.groupby(self.settings, dropna=False)

    @property
    def settings(self) -> list[str]:
        """The columns that tell the settings of the sweep apart."""
        return ["configuration", *(name for name in grid_names(self.spec) if name in self.results)]

    def rows(self, **chosen: Any) -> pd.DataFrame:
        """The rows of `results` of one setting, in the order of the seeds.

        Args:
            chosen: columns and their values; `rule_damping` stands for `rule.damping`.

        Raises:
            KeyError: if no run has these values.
        """
        rows = self.results
        for name, value in chosen.items():
            rows = rows[rows[name.replace("rule_", "rule.")] == value]
        if rows.empty:
            raise KeyError(f"no run with {chosen}")
        return rows.sort_values("seed")


def keep_sweep(spec_file: str | Path, out: str | Path, folder: str | Path) -> Path:
    """Keep what is finished of a sweep; returns the table's path.

    Args:
        spec_file: the sweep's spec.
        out: the sweep's folder, with a folder a run.
        folder: where the three files go. What was kept of this sweep before is replaced.

    Raises:
        ValueError: if no run is finished.
    """
    table = write_results(read_spec(spec_file), out)
    if table.empty:
        raise ValueError(f"no run of {spec_file} is finished in {out}")
    origins = [one for run in table["run"] for one in provenance(read_config(Path(out) / run))]
    about = {
        "spec": tomllib.loads(Path(spec_file).read_text(encoding="utf-8")),
        "versions": _distinct(origin["versions"] for origin in origins),
        "git_revisions": sorted({str(origin["git_revision"]) for origin in origins}),
    }
    name = Path(folder) / Path(spec_file).stem
    name.parent.mkdir(parents=True, exist_ok=True)
    curves = pd.concat([_curve(Path(out) / run) for run in table["run"]])
    write_whole(name.with_name(f"{name.name}_curves.csv"), _csv(curves))
    write_whole(name.with_suffix(".json"), (json.dumps(about, indent=2) + "\n").encode())
    write_whole(name.with_suffix(".csv"), _csv(table))
    return name.with_suffix(".csv")


def _distinct(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Package -> its version; several, if the runs had several."""
    table = pd.DataFrame(versions).astype(str)
    return {str(name): ", ".join(sorted(set(column))) for name, column in table.items()}


def _curve(run: Path) -> pd.DataFrame:
    curve = thin(learning_record(run), CURVE_ROWS)[CURVE_COLUMNS]
    curve.insert(0, "run", run.name)
    return curve


def _csv(table: pd.DataFrame) -> bytes:
    return str(table.to_csv(index=False, float_format="%.5g")).encode()


def read_kept(topic: str, folder: str | Path = KEPT) -> dict[str, Kept]:
    """Task -> what is kept of the sweep `ablation_TOPIC_...` on it; the point mass first."""
    kept = {}
    for path in sorted(Path(folder).glob(f"ablation_{topic}_*.json")):
        name = path.with_suffix("")
        spec = json.loads(path.read_text(encoding="utf-8"))["spec"]
        curves = pd.read_csv(name.with_name(f"{name.name}_curves.csv"))
        planned = len(plan(spec).runs) // len(spec["seeds"])
        found = Kept(pd.read_csv(f"{name}.csv"), curves, spec, planned)
        kept[found.task] = found
    return dict(sorted(kept.items(), key=lambda item: item[0] != "PointMass-v0"))


def inside(costs: Array, limit: float) -> str:
    """`inside` or `above` if the whole 95 % interval of the mean cost is; else `open`.

    A single seed has no interval, and decides nothing.
    """
    return standing(mean_interval(costs), limit)


def compare(ours: Array, theirs: Array) -> str:
    """`more` or `less` if the whole 95 % interval of mean(ours) - mean(theirs) is; else `open`.

    Of two equal settings, one comparison in twenty is not `open`. A single seed decides nothing.
    """
    low, high = difference_interval(ours, theirs)
    return "more" if low > 0 else "less" if high < 0 else "open"


def expectation(found: str, wanted: str) -> str:
    """What a verdict of `compare` or `inside` says of an expectation."""
    if found == "open":
        return "not decided by these seeds"
    return "met" if found == wanted else f"not met: {found}"


Arms = dict[str, tuple[Array, Array]]
"""Name of a setting -> returns and costs [seeds] of its fresh episodes, sampled actions."""


def arms_of(kept: Kept, settings: Mapping[str, Mapping[str, Any]]) -> Arms:
    """The settings' scores under their names; a setting without any run yet is left out.

    Args:
        kept: the sweep.
        settings: name -> columns of `Kept.results` and their values.
    """
    arms = {}
    for name, chosen in settings.items():
        with suppress(KeyError):
            rows = kept.rows(**chosen)
            scores = (rows[f"sampled_{what}"].to_numpy(float) for what in ("return", "cost"))
            arms[name] = tuple(scores)
    return arms


def verdicts(arms: Arms, limit: float) -> pd.DataFrame:
    """A row a setting: its means, what its intervals say against the first one and the limit."""
    first_returns, first_costs = next(iter(arms.values()))
    rows = [
        {
            "setting": name,
            "seeds": len(returns),
            "return": round(float(returns.mean()), 1),
            "against the first": compare(returns, first_returns),
            "cost": round(float(costs.mean()), 1),
            "against the first ": compare(costs, first_costs),
            "limit": inside(costs, limit),
        }
        for name, (returns, costs) in arms.items()
    ]
    return pd.DataFrame(rows).set_index("setting")


def grid_of(
    kept: Kept, measure: str, rows: str, columns: str
) -> tuple[Array, list[Any], list[Any]]:
    """[rows, columns, seeds] a measure on a grid of two settings, and the settings' values.

    Only seeds that every place of the grid has are in it.
    """
    table = kept.results.pivot(index=[rows, columns], columns="seed", values=measure)
    whole = table.dropna(axis="columns")
    first, second = (list(whole.index.levels[i]) for i in (0, 1))
    return whole.to_numpy().reshape(len(first), len(second), -1), first, second


LAMBDAS, KS = (0.5, 0.7, 0.9), (0.1, 0.4, 10.0)


def shore_map(seeds: int = 10, epochs: int = 60) -> Kept:
    """The map of lambda and k on the `ShoreWalk` of notebook 05, simulated within seconds.

    Returns and costs are the true ones of the last policy; c_ep is a mean over 20 episodes.
    """
    rows = [
        _shore_row(margin_lambda, k, seed, epochs)
        for margin_lambda, k, seed in itertools.product(LAMBDAS, KS, range(seeds))
    ]
    grid = {"margin_lambda": list(LAMBDAS), "steepness_k": list(KS)}
    spec = {"seeds": list(range(seeds)), "common": {"env_id": "shore walk"}, "grid": grid}
    return Kept(pd.DataFrame(rows), pd.DataFrame(), spec, len(LAMBDAS) * len(KS))


def _shore_row(margin_lambda: float, k: float, seed: int, epochs: int) -> dict[str, Any]:
    walk, controller = ShoreWalk(), MarginAware(20.0, margin_lambda, k)
    trace = simulate(walk, controller, epochs=epochs, episodes=10, window=20, seed=seed)
    costs, weights = trace.settled(), np.array(trace.cost_weight[epochs // 2 :])
    return {
        "run": f"shore_margin_lambda={margin_lambda}_steepness_k={k}_{seed}",
        "configuration": "shore",
        "margin_lambda": margin_lambda,
        "steepness_k": k,
        "seed": seed,
        "cost_limit": controller.cost_limit,
        "sampled_return": walk.episodic_return(trace.theta[-1]),
        "sampled_cost": walk.episodic_cost(trace.theta[-1]),
        "epochs_within": np.mean(costs <= controller.cost_limit),
        "training_cost": np.mean(trace.cost),
        "weight_spread": weights.std(),
    }


def effects(grid: Array) -> tuple[Array, Array, Array]:
    """Main effects of rows and of columns, and their interaction, of a [rows, columns] table.

    Returns:
        [rows], [columns] and [rows, columns]; with the mean of all they add up to the table, and
        every one of them sums to zero along each of its axes.
    """
    rows = grid.mean(axis=1) - grid.mean()
    columns = grid.mean(axis=0) - grid.mean()
    return rows, columns, grid - grid.mean() - rows[:, None] - columns


def optimism(scores: Array, splits: int = 200, seed: int = 0) -> tuple[Array, Array]:
    """What the best of several settings promises, and what it then keeps.

    The seeds are split in half, again and again: the setting with the highest mean on one half is
    judged by the other.

    Args:
        scores: [settings, seeds]
        splits: how often.
        seed: of the splits.

    Returns:
        [splits] the chosen setting's mean on the half that chose it, and on the other.
    """
    rng = np.random.default_rng(seed)
    half = scores.shape[1] // 2
    promised, kept = np.empty(splits), np.empty(splits)
    for i in range(splits):
        order = rng.permutation(scores.shape[1])
        chosen, fresh = scores[:, order[:half]], scores[:, order[half:]]
        best = int(chosen.mean(axis=1).argmax())
        promised[i], kept[i] = chosen[best].mean(), fresh[best].mean()
    return promised, kept


def best_by_mean(returns: Array, costs: Array, limit: float) -> int | None:
    """Of the settings whose mean cost is within the limit, the one with the highest mean return.

    Args:
        returns, costs: [settings, seeds]
        limit: of the cost.
    """
    safe = np.flatnonzero(costs.mean(axis=1) <= limit)
    return int(safe[returns[safe].mean(axis=1).argmax()]) if len(safe) else None


def best_inside(returns: Array, costs: Array, limit: float) -> int | None:
    """The setting to build on: of those surely inside the limit, the one sure to earn the most.

    Args:
        returns, costs: [settings, seeds]
        limit: of the cost.

    Returns:
        Of the settings whose cost has its whole interval within the limit, the index of the one
        whose interval of the return has the highest lower end; None if there is none.
    """
    safe = [i for i, row in enumerate(costs) if inside(row, limit) == "inside"]
    return max(safe, key=lambda i: mean_interval(returns[i]).low, default=None)
