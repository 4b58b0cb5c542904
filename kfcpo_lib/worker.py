"""A job in a process of its own: a training that is steered, an evaluation, a film.

`python -m kfcpo_lib.worker` reads its job, then orders, as lines of JSON from its standard input,
and tells what happens as lines of JSON on its standard output. When the input ends, whoever
started it is gone: a training ends after its present epoch, which is safe on disk.
"""

import contextlib
import io
import json
import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from kfcpo_lib.records import Knobs, TrainConfig
from kfcpo_lib.training import train

Tell = Callable[..., None]
Order = dict[str, Any]


@dataclass
class Steering:
    """What a training has been ordered to do; obeyed between epochs."""

    knobs: Knobs
    tell: Tell
    orders: SimpleQueue[Order] = field(default_factory=SimpleQueue)
    epochs_allowed: float = math.inf
    """So many epochs may still be trained; 0: paused."""
    stopped: bool = False

    def may_go_on(self) -> bool:
        """Obey every order that has come, wait while paused; False: stop."""
        while not self.stopped and (self.epochs_allowed < 1 or not self.orders.empty()):
            if self.orders.empty():
                self.tell("paused")
            self.obey(**self.orders.get())
        self.epochs_allowed -= 1
        return not self.stopped

    def obey(self, order: str, **values: float) -> None:
        """One of `go`, `pause`, `step` (one epoch), `stop`, `knobs`."""
        if order == "knobs":
            for name, value in values.items():
                setattr(self.knobs, name, value)
        self.stopped = self.stopped or order == "stop"
        self.epochs_allowed = {"go": math.inf, "pause": 0, "step": 1}.get(
            order, self.epochs_allowed
        )


def run_training(
    tell: Tell,
    orders: SimpleQueue[Order],
    *,
    config: dict[str, Any],
    knobs: dict[str, float],
    resume: bool,
    epochs_allowed: float | None,
) -> None:
    """Train epoch by epoch, as ordered; tells `ready`, `epoch`, `paused` and how it ended."""
    steering = Steering(Knobs(**knobs), tell, orders)
    if epochs_allowed is not None:
        steering.epochs_allowed = epochs_allowed
    reports = train(TrainConfig(**config), steering.knobs, resume=resume)
    with closing(reports):  # type: ignore[type-var]
        tell("ready")
        while steering.may_go_on():
            report = next(reports, None)
            if report is None:
                tell("finished")
                return
            tell("epoch", epoch=report.epoch, env_steps=report.env_steps)
    tell("stopped")


def run_evaluation(tell: Tell, orders: SimpleQueue[Order], *, run: str, episodes: int) -> None:
    """Play fresh episodes with sampled and with mean actions; tells each result in words."""
    from kfcpo_lib.evaluation import ACTIONS, evaluate

    for actions in ACTIONS:
        tell("evaluated", words=str(evaluate(run, episodes, actions)))
    tell("finished")


def run_film(tell: Tell, orders: SimpleQueue[Order], **settings: Any) -> None:
    """Film an episode."""
    from kfcpo_lib.films import shoot

    shoot(**settings)
    tell("finished")


JOBS: dict[str, Callable[..., None]] = {
    "train": run_training,
    "evaluate": run_evaluation,
    "film": run_film,
}


def listen(lines: io.FileIO, orders: SimpleQueue[Order]) -> None:
    """Pass on the orders, line by line; the end of the input means to stop."""
    for line in lines:
        orders.put(json.loads(line))
    orders.put({"order": "stop"})


def do(tell: Tell, orders: SimpleQueue[Order], job: str, **settings: Any) -> int:
    """Do one job; 0 if it went well, 1 if it ended with an error, which is told in words."""
    try:
        JOBS[job](tell, orders, **settings)
    except (ValueError, OSError, FloatingPointError) as error:
        tell("failed", words=str(error))
        return 1
    except Exception as error:  # it must reach the one who asked, whatever it is
        tell("failed", words=f"{type(error).__name__}: {error}")
        return 1
    return 0


def main() -> int:
    """Do the job that is asked for on the standard input."""
    events = os.dup(1)
    os.dup2(2, 1)  # whatever is printed goes where errors go

    def tell(event: str, **details: Any) -> None:
        line = json.dumps({"event": event} | details) + "\n"
        with contextlib.suppress(BrokenPipeError):  # nobody listens: the input ends soon
            os.write(events, line.encode())

    lines, orders = io.FileIO(0, closefd=False), SimpleQueue[Order]()
    job = json.loads(lines.readline())
    threading.Thread(target=listen, args=(lines, orders), daemon=True).start()
    return do(tell, orders, **job)


if __name__ == "__main__":
    sys.exit(main())
