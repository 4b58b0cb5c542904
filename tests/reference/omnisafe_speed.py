"""How many steps per second OmniSafe's CPO trains at (optional; OmniSafe's own environment).

    OMNISAFE_PYTHON tests/reference/omnisafe_speed.py             # both settings -> the JSON file
    OMNISAFE_PYTHON tests/reference/omnisafe_speed.py --json --vector-envs 2    # one JSON line

The second form is what `kfcpo_lib bench train --omnisafe-python` calls: whatever OmniSafe prints
goes to stderr, stdout carries one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from omnisafe_import import import_omnisafe, provenance

OUTPUT = Path(__file__).with_name("omnisafe_speed.json")


def measure(env_id: str, vector_envs: int, epochs: int, steps: int, threads: int) -> dict[str, Any]:
    """Train CPO for `epochs` epochs of `steps` steps and time it, construction left out."""
    omnisafe = import_omnisafe()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as log_dir:
        settings = {
            "train_cfgs": {
                "total_steps": epochs * steps,
                "vector_env_nums": vector_envs,
                "torch_threads": threads,
            },
            "algo_cfgs": {"steps_per_epoch": steps},  # networks: 64 x 64 tanh, OmniSafe's default
            "logger_cfgs": {"use_tensorboard": False, "log_dir": log_dir},
        }
        agent = omnisafe.Agent("CPO", env_id, custom_cfgs=settings)
        start = time.perf_counter()
        agent.learn()
        seconds = time.perf_counter() - start
    return {
        "algorithm": "CPO",
        "env_id": env_id,
        "vector_envs": vector_envs,
        "steps": epochs * steps,
        "steps_per_epoch": steps,
        "torch_threads": threads,
        "seconds": round(seconds, 2),
        "steps_per_second": round(epochs * steps / seconds, 1),
        "load_average_1min": {"before": load_before, "after": os.getloadavg()[0]},
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one setting, one JSON line on stdout")
    parser.add_argument("--vector-envs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20_000, help="steps per epoch")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads")
    parser.add_argument("--env-id", default="SafetyPointGoal1-v0")
    return parser.parse_args()


def main() -> None:
    """Measure one setting (`--json`), or both in processes of their own and store them."""
    args = arguments()
    if args.json:
        answer = os.dup(1)
        os.dup2(2, 1)  # OmniSafe and its worker processes print; keep that out of the answer
        result = measure(args.env_id, args.vector_envs, args.epochs, args.steps, args.threads)
        os.write(answer, (json.dumps(result | provenance()) + "\n").encode())
        return
    common = ["--json", "--epochs", args.epochs, "--steps", args.steps, "--threads", args.threads]
    settings = []
    for vector_envs in (1, 2):
        command = [sys.executable, __file__, *common, "--env-id", args.env_id]
        command += ["--vector-envs", vector_envs]
        run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
        settings.append(json.loads(run.stdout))
        print(f"{vector_envs} vector envs: {settings[-1]['steps_per_second']} steps/s")
    note = (
        "Wall time of Agent.learn() alone (rollouts with their resets, updates, logging). The load "
        "average says how busy the machine was: above the script's own 1 to 2 it was shared."
    )
    shared = provenance()
    for setting in settings:
        for key in shared:
            del setting[key]
    OUTPUT.write_text(json.dumps(shared | {"note": note, "settings": settings}, indent=2) + "\n")


if __name__ == "__main__":
    main()
