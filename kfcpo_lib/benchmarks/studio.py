"""Is a training in the studio as fast as on the command line? `python -m kfcpo_lib bench studio`.

Both train the same run in a process of their own; beside the studio's one, pictures are drawn and
the agent is played, as in a notebook. Rounds alternate, so a machine that is busy with other
things slows both; the ratio is the median over the rounds of the time that the same epochs took,
from the end of the first to the end of the last, as the files' times tell.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kfcpo_lib.background import ENDED
from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.widgets.studio import Studio


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, and store it under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench studio", description=__doc__)
    parser.add_argument("--env", default=TrainConfig.env_id)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(argv)
    rounds = [measure(options.env, options.epochs + 1) for _ in range(options.rounds)]
    rows = rows_of(np.array(rounds))
    print(table(rows))
    save_results(options.out, "studio", rows, **vars(options))
    return 0


def measure(env_id: str, epochs: int) -> tuple[float, float]:
    """Seconds of the epochs after the first: on the command line, and in the studio."""
    steps = epochs * TrainConfig.steps_per_epoch
    with TemporaryDirectory() as place:
        plain = Path(place) / "plain"
        words = ["train", "--env", env_id, "--steps", str(steps), "--out", str(plain)]
        words += ["--policy-snapshots", str(epochs)]
        subprocess.run([sys.executable, "-m", "kfcpo_lib", *words], check=True, capture_output=True)
        settings: dict[str, Any] = {"total_steps": steps, "policy_snapshots": epochs}
        studio = Studio(Path(place) / "studio", "bench", env_id=env_id, **settings)
        studio.start()
        while studio.training.state not in ENDED:
            time.sleep(0.1)
        studio.close()
        if studio.training.words:
            raise RuntimeError(studio.training.words)
        [live] = (Path(place) / "studio").iterdir()
        return seconds_of(plain), seconds_of(live)


def seconds_of(folder: Path) -> float:
    """Seconds from the first policy that was kept to the last one."""
    times = [path.stat().st_mtime for path in folder.glob("snapshots/*.pt")]
    return max(times) - min(times)


def rows_of(seconds: Any) -> list[dict[str, Any]]:
    """A row for each way; `seconds` is [rounds, 2]."""
    ratios = seconds[:, 1] / seconds[:, 0]
    return [
        {
            "training": name,
            "seconds": round(float(np.median(seconds[:, column])), 2),
            "/ command line": round(float(np.median(ratio)), 3),
        }
        for column, (name, ratio) in enumerate(
            {"command line": np.ones(len(seconds)), "studio": ratios}.items()
        )
    ]
