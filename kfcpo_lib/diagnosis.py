"""What ails a run: four failure signatures of constrained learning, and four marks of a silent bug.

The signatures are judged by the last third of `progress.csv`, where a run should have settled; the
marks by all of it. The thresholds are ours: wide enough for the noise of healthy runs. What speaks
of KFCPO's own knobs, its weight and its adaptive delta, is looked for in its runs alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from kfcpo_lib.records import EpochReport
from kfcpo_lib.runs import read_config, read_minibatches, read_progress

COST_ABOVE = "cost above its limit"
STALLED = "stalled learning"
OSCILLATING = "oscillating weights"
SUPPRESSED = "reward suppressed though safe"
KL_BEYOND = "KL beyond its limit"
ONE_LINE = "both directions in one line"
WRONG_WEIGHT = "weight off its formula"
NOT_FINITE = "numbers that are not finite"

FEWEST_EPOCHS = 6
COST_EXCESS = 1.1
"""The mean cost may lie so many times at its limit before it counts as above."""
UNDONE_SHARE = 0.5
"""An adaptive delta settles where about 12 % of the steps are undone."""
TINY_DELTA = 2e-3
"""Share of the KL limit; an adaptive delta that falls below it has hardly a step left."""
WEIGHT_JUMP = 0.45
"""Mean change of w_c from one epoch to the next; healthy runs change by 0.1 to 0.35."""
SAFE_SHARE, SAFE_WEIGHT = 0.6, 0.3
"""Share of the limit at which a run has room to spare; the most that w_c should be there."""
KL_EXCESS = 2.0
"""The check sees minibatches and the epoch's KL is over all states: a little above is noise."""
LINE_COSINE = 0.98
"""Size of the cosine from which on two directions are one."""
WEIGHT_ERROR = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run."""

    signature: str
    """Its name, one of the constants of this module."""
    evidence: str
    """The numbers of the run that show it."""
    advice: str
    """What to try."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found, the gravest first; `str` says it in words."""

    epochs: int
    """How many of the last epochs were judged."""
    findings: tuple[Finding, ...]

    @property
    def signatures(self) -> list[str]:
        """Names of what was found."""
        return [finding.signature for finding in self.findings]

    def __str__(self) -> str:
        if not self.findings:
            return f"nothing wrong seen in the last {self.epochs} epochs"
        return "\n".join(
            f"{finding.signature}: {finding.evidence}. Try: {finding.advice}."
            for finding in self.findings
        )


def diagnose(
    run: str | Path | pd.DataFrame | Sequence[EpochReport], *, algorithm: str = "kfcpo"
) -> Diagnosis:
    """Say which failure signatures a run shows, with the evidence and what to try.

    Args:
        run: a run's folder, the table of its `progress.csv`, or its epoch reports.
        algorithm: the update rule, for a table or reports; a folder knows its own.

    Raises:
        ValueError: if the folder holds no readable run, a column is missing or holds no numbers,
            or the run is too short to be judged.
    """
    if isinstance(run, str | Path):
        algorithm = str(read_config(run)["settings"].get("algorithm"))
        run = _of_folder(Path(run))
    elif not isinstance(run, pd.DataFrame):
        run = _of_reports(run)
    progress = _checked(run)
    tail = tail_of(progress)
    spared = set[Judge]() if algorithm == "kfcpo" else set(OF_KFCPO)
    if algorithm in KEEP_THE_LAST_PASS:
        spared.add(_judge_kl)
    findings = (judge(progress, tail) for judge in JUDGES if judge not in spared)
    return Diagnosis(len(tail), tuple(finding for finding in findings if finding))


def _of_folder(folder: Path) -> pd.DataFrame:
    """`progress.csv`, and the size of the cosines if `minibatches.csv` is there."""
    table = read_progress(folder)
    stored = (folder / "minibatches.csv").exists()
    trials = read_minibatches(folder) if stored else pd.DataFrame()
    if "epoch" in table and {"epoch", "cosine"} <= {*trials}:
        cosines = pd.to_numeric(trials["cosine"], errors="coerce").abs()
        table[COSINE_SIZE] = table["epoch"].map(cosines.groupby(trials["epoch"]).mean())
    return table


def _of_reports(reports: Sequence[EpochReport]) -> pd.DataFrame:
    """The same of reports."""
    sizes = [pd.Series([trial.cosine for trial in r.details]).abs().mean() for r in reports]
    return pd.DataFrame([report.row() for report in reports]).assign(**{COSINE_SIZE: sizes})


KEEP_THE_LAST_PASS = ("ppo", "ppo_lag", "cup", "p3o")
"""Rules that stop once a pass has gone beyond the KL limit, and keep it: so they are made."""
COSINE_SIZE = "cosine_size"
"""Mean |cosine| of an epoch's minibatches: cosines of 1 and -1 have a mean of 0."""
NEEDED = (
    *("epoch", "env_steps", "return_mean", "episodic_cost_mean", "cost_weight", "margin_lambda"),
    *("steepness_k", "kl_limit", "cost_limit", "kl", "rollbacks", "minibatches"),
    *("conflict_cosine", "delta", "nonfinite"),
)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that are judged, as numbers."""
    if len(table) < FEWEST_EPOCHS:
        raise ValueError(
            f"a run of {len(table)} epochs is too short to be judged: "
            f"it takes at least {FEWEST_EPOCHS}"
        )
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(f"the run's table has no column {', '.join(missing)}")
    if COSINE_SIZE not in table:
        table = table.assign(
            **{COSINE_SIZE: pd.to_numeric(table["conflict_cosine"], "coerce").abs()}
        )
    columns = table[[*NEEDED, COSINE_SIZE]].reset_index(drop=True)
    numbers = columns.apply(pd.to_numeric, errors="coerce").astype(float)
    spoilt = numbers.isna() & columns.notna()
    for name in columns:
        if spoilt[name].any():
            word = columns.loc[spoilt[name], name].iloc[0]
            raise ValueError(f"column {name} holds {word!r} where a number should be")
    if tail_of(numbers)["episodic_cost_mean"].isna().all():
        raise ValueError("no whole episode ended in the last third of the run: nothing to judge")
    return numbers


def tail_of(progress: pd.DataFrame) -> pd.DataFrame:
    """The last third of a run's epochs, where it should have settled."""
    return progress.tail(math.ceil(len(progress) / 3))


def _judge_cost(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    cost, limit = _mean(tail["episodic_cost_mean"]), _mean(tail["cost_limit"])
    if not cost > COST_EXCESS * limit:
        return None
    weight = _mean(tail["cost_weight"])
    evidence = f"the episodic cost is {cost:.1f}, its limit {limit:g}; w_c is {weight:.2f}"
    if weight < 0.75:
        advice = (
            "more weight for the cost; in KFCPO a larger k, a lower λ, or a shorter average of "
            "the episodic cost if it lags behind"
        )
    elif _falls(progress["episodic_cost_mean"]):
        advice = "more epochs: the cost is still falling, and it has the weight to go on"
    else:
        advice = (
            "a look at the cost direction, for its weight is not what is missing: the sign of its "
            "gradient, its critic, what the projection leaves of it, the noise of its advantage"
        )
    return Finding(COST_ABOVE, evidence, advice)


def _judge_steps(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    undone = _ratio(tail["rollbacks"], tail["minibatches"])
    delta, limit = _mean(tail["delta"]), _mean(tail["kl_limit"])
    often, tiny = undone >= UNDONE_SHARE, delta < TINY_DELTA * limit
    if not (often or tiny):
        return None
    evidence = (
        f"{undone:.0%} of the steps are undone, δ is {delta:.1e} under a KL limit of {limit:g}, "
        f"the KL of an epoch is {_mean(tail['kl']):.1e}"
    )
    fixed = "an adaptive δ or a smaller one, or a larger KL limit"
    broken_promise = (
        "fresher factors (T_s, T_f, a shorter average), more damping, or a larger KL limit: the "
        "true KL of a step is far above what its length promises"
    )
    return Finding(STALLED, evidence, fixed if tail["delta"].nunique() <= 1 else broken_promise)


def _judge_weights(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    jump = _mean(tail["cost_weight"].diff().abs())
    if not jump >= WEIGHT_JUMP:
        return None
    noise = float(tail["episodic_cost_mean"].std())
    k = _mean(tail["steepness_k"])
    evidence = (
        f"w_c changes by {jump:.2f} from one epoch to the next; the episodic cost has a standard "
        f"deviation of {noise:.1f}, k is {k:g}"
    )
    calm = min(0.5 * k, 1.0 / noise) if noise > 0 else 0.5 * k
    advice = f"a smaller k, {calm:.1g} say, or a longer average of the episodic cost"
    return Finding(OSCILLATING, evidence, advice)


def _judge_reward(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    cost, limit = _mean(tail["episodic_cost_mean"]), _mean(tail["cost_limit"])
    weight = _mean(tail["cost_weight"])
    if not (cost <= SAFE_SHARE * limit and weight >= SAFE_WEIGHT):
        return None
    centre = _mean(tail["margin_lambda"] * tail["cost_limit"])
    evidence = (
        f"the episodic cost is {cost:.1f} under a limit of {limit:g}, and yet w_c is {weight:.2f}; "
        f"the margin centre λC is {centre:.1f}"
    )
    low = "a higher λ: the margin begins far below the limit"
    flat = "a larger k: w_c hardly falls where the cost is low"
    return Finding(SUPPRESSED, evidence, low if centre < 0.75 * limit else flat)


def _judge_kl(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    ratio = progress["kl"] / progress["kl_limit"]
    if not ratio.max() > KL_EXCESS:
        return None
    worst = progress.loc[int(ratio.idxmax())]
    evidence = (
        f"epoch {worst['epoch']:.0f} moved the policy by {worst['kl']:.2g} nats, its limit is "
        f"{worst['kl_limit']:g}, and {worst['rollbacks']:.0f} of {worst['minibatches']:.0f} steps "
        "were undone"
    )
    return Finding(KL_BEYOND, evidence, "a look at the rollback: is it on, and does it restore")


def _judge_angle(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    cosine = _mean(tail[COSINE_SIZE])
    if not cosine > LINE_COSINE:
        return None
    evidence = f"the cosine between the two directions is {cosine:.2f} in size"
    advice = "a look at both gradients: do they use two advantages, and are these of shape [B]"
    return Finding(ONE_LINE, evidence, advice)


def _judge_finite(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    refused = float(progress["nonfinite"].sum())
    if not refused:
        return None
    evidence = f"{np.ceil(refused):.0f} numbers were not finite and were refused"
    return Finding(NOT_FINITE, evidence, "damping above 0, a look at the world's rewards and costs")


def _judge_weight(progress: pd.DataFrame, tail: pd.DataFrame) -> Finding | None:
    if (progress["epoch"].diff() > 1).any():  # a mean of several epochs lies off the curve
        return None
    centre = progress["margin_lambda"] * progress["cost_limit"]
    formula = expit(progress["steepness_k"] * (progress["episodic_cost_mean"] - centre))
    off = (progress["cost_weight"] - formula).abs()
    if not off.max() > WEIGHT_ERROR:
        return None
    at = int(off.idxmax())
    evidence = (
        f"in epoch {progress['epoch'][at]:.0f} w_c was {progress['cost_weight'][at]:.2f}, and "
        f"sigmoid(k (c_ep - λC)) is {formula[at]:.2f}"
    )
    return Finding(WRONG_WEIGHT, evidence, "a look at where w_c is made: order, sign, unit of c_ep")


Judge = Callable[[pd.DataFrame, pd.DataFrame], Finding | None]
JUDGES: tuple[Judge, ...] = (
    _judge_finite,
    _judge_kl,
    _judge_angle,
    _judge_weight,
    _judge_steps,
    _judge_cost,
    _judge_weights,
    _judge_reward,
)
OF_KFCPO: tuple[Judge, ...] = (_judge_weight, _judge_steps, _judge_weights, _judge_reward)
"""They go by w_c = sigmoid(k (c_ep - lambda C)) and an adaptive delta; the refused trials of a line
search are no undone steps."""


def _mean(column: "pd.Series[float]") -> float:
    """Mean of what is known; NaN if nothing is."""
    return float(column.mean())


def _ratio(part: "pd.Series[float]", whole: "pd.Series[float]") -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else math.nan


def _falls(column: "pd.Series[float]") -> bool:
    """Whether the last third lies below the third before it by a tenth."""
    third = math.ceil(len(column) / 3)
    return _mean(column.tail(third)) < 0.9 * _mean(column.iloc[-2 * third : -third])
