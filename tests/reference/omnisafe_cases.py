"""Which of CPO's five cases OmniSafe's CPO meets in real training (optional; OmniSafe's own env).

    OMNISAFE_PYTHON tests/reference/omnisafe_cases.py    # writes omnisafe_cases.json (7 minutes)

It trains OmniSafe's CPO on SafetyPointGoal1-v0 with short epochs under several cost limits, so that
epochs on both sides of the limit occur, and reads the numbers it logs in every epoch. `b_zero` is
the largest |c| that leaves B = 2*delta - c^2/s at or above 0: cases 1 and 2 need |c| <= b_zero.
"""

import argparse
import contextlib
import csv
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from omnisafe_import import import_omnisafe, provenance

OUTPUT = Path(__file__).with_name("omnisafe_cases.json")
TARGET_KL = 0.01


def train(cost_limit: float, epochs: int, steps: int, seed: int) -> list[dict[str, float]]:
    """One run: case, c (episode units), s and b_zero of each epoch."""
    omnisafe = import_omnisafe()
    with tempfile.TemporaryDirectory() as log_dir:
        settings = {
            "seed": seed,
            "train_cfgs": {"total_steps": epochs * steps, "torch_threads": 2},
            "algo_cfgs": {"steps_per_epoch": steps, "cost_limit": cost_limit},
            "logger_cfgs": {"use_tensorboard": False, "log_dir": log_dir},
        }
        agent = omnisafe.Agent("CPO", "SafetyPointGoal1-v0", custom_cfgs=settings)
        agent.learn()
        (log,) = Path(log_dir).rglob("progress.csv")
        rows = list(csv.DictReader(log.open()))
    return [
        {
            "case": float(row["Misc/OptimCase"]),
            "c": float(row["Metrics/EpCost"]) - cost_limit,
            "s": float(row["Misc/s"]),
            "b_zero": math.sqrt(2 * TARGET_KL * float(row["Misc/s"])),
            "accepted_trial": float(row["Misc/AcceptanceStep"]),
        }
        for row in rows
    ]


def summary(epochs: list[dict[str, float]]) -> dict[str, Any]:
    """How often each case occurred, and what would have occurred with c per step."""
    wanted = [abs(epoch["c"]) / 1000 <= epoch["b_zero"] for epoch in epochs]
    return {
        "epochs": len(epochs),
        "case_counts": {
            str(int(case)): count
            for case, count in sorted(Counter(epoch["case"] for epoch in epochs).items())
        },
        "epochs_where_c_per_step_would_give_case_1_or_2": sum(wanted),
        "abs_c_min": min(abs(epoch["c"]) for epoch in epochs),
        "b_zero_max": max(epoch["b_zero"] for epoch in epochs),
    }


def main() -> None:
    """Train under each limit and store counts and epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--steps", type=int, default=2000, help="steps per epoch")
    parser.add_argument("--limits", type=float, nargs="+", default=[25.0, 55.0])
    args = parser.parse_args()
    runs = []
    for limit in args.limits:
        with contextlib.redirect_stdout(None):
            epochs = train(limit, args.epochs, args.steps, seed=0)
        print(limit, summary(epochs))
        rounded = [{key: round(value, 6) for key, value in epoch.items()} for epoch in epochs]
        runs.append({"cost_limit": limit} | summary(epochs) | {"per_epoch": rounded})
    everything = [epoch for run in runs for epoch in run["per_epoch"]]
    record = {"what": __doc__.strip(), "steps_per_epoch": args.steps, "seed": 0}
    record |= provenance() | {"all": summary(everything), "runs": runs}
    OUTPUT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
