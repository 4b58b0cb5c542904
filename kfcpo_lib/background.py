"""Work in the background: a process per job, and a training that is steered while it runs.

The training itself runs in `kfcpo_lib.worker` and writes its run's folder as the command line's
does. Nothing of it runs in the notebook's process but one thread that waits for news, so it goes on
while cells run, survives an interrupted kernel, and ends by itself when the kernel is gone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import kfcpo_lib
from kfcpo_lib.records import Knobs, TrainConfig, config_to_dict
from kfcpo_lib.runs import read_checkpoint, read_train_config

Event = dict[str, Any]
PATIENCE = 60.0
"""Seconds that `close` waits for the present epoch before it ends the process by force."""


class Job:
    """A process that does one job.

    Args:
        hear: called with every event, on a thread of the job's own; the last event is `finished`,
            `stopped` or `failed` (with `words`), whatever happens to the process.
        environ: further variables of its environment.
        job: see `kfcpo_lib.worker.JOBS`.
    """

    def __init__(
        self, hear: Callable[[Event], None], environ: dict[str, str] | None = None, **job: Any
    ) -> None:
        self._hear = hear
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed when it ends
        home = str(Path(kfcpo_lib.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kfcpo_lib.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": paths} | (environ or {}),
            start_new_session=True,  # an interrupted kernel does not interrupt the training
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.order(**job)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def order(self, **line: Any) -> None:
        """Send a line; a process that has ended does not mind."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    def close(self, patience: float = PATIENCE) -> None:
        """Let it end (a training: after its present epoch), by force if it takes too long."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        last = ""
        for line in self._process.stdout:
            event = json.loads(line)
            last = event["event"]
            self._hear(event)
        code = self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        if last not in ("finished", "stopped", "failed"):
            self._hear({"event": "failed", "words": self._last_words(code)})
        self._errors.close()

    def _last_words(self, code: int) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if code >= 0:
            return f"its process ended: {lines[-1] if lines else f'exit code {code}'}"
        name = signal.Signals(-code).name
        return f"its process was killed ({name}); on a machine short of memory the system does that"


ENDED = ("idle", "stopped", "finished", "failed")
"""States without a process."""
POSSIBLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ENDED, ("start", "resume")),
    "starting": ("pause", "stop"),
    "running": ("pause", "stop"),
    "pausing": ("go", "stop"),
    "paused": ("go", "step", "stop"),
    "stopping": (),
}
"""What may be asked for in each state."""


class LiveTraining:
    """A training in the background: start, pause, one epoch at a time, stop, resume, turn.

    `state` is one of `POSSIBLE`; `words` says in a sentence what went wrong, if it has `failed`.
    A change of a knob takes effect at the next epoch and stands in that epoch's row of
    `progress.csv`. Everything may be called from any thread.

    Args:
        changed: called after every change of state and every epoch, on any thread.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.state = "idle"
        self.words = ""
        self.config: TrainConfig | None = None
        self.knobs = Knobs()
        self.epoch = 0
        """The last epoch that is on disk."""
        self._changed = changed
        self._job: Job | None = None
        self._lock = threading.RLock()

    @property
    def possible(self) -> tuple[str, ...]:
        """What may be asked for now."""
        return POSSIBLE[self.state]

    @property
    def pid(self) -> int | None:
        """Number of the training's process, while it has one."""
        return None if self._job is None or self.state in ENDED else self._job.pid

    def start(self, config: TrainConfig, *, one_epoch: bool = False) -> None:
        """Start a new run in `config.run_dir`; with `one_epoch` it pauses after the first.

        Raises:
            ValueError: if it has no `run_dir`, or a training is under way.
        """
        if config.run_dir is None:
            raise ValueError("a training in the background needs run_dir, a folder for its run")
        self._launch("start", config, config.knobs(), epochs_allowed=1 if one_epoch else None)

    def resume(self, folder: str | Path, **changes: Any) -> None:
        """Go on with the run in a folder, from its checkpoint, its knobs where they were left.

        Of the last training here that is where they are now, even if they were turned since.

        Raises:
            ValueError: if there is nothing to go on from, or a training is under way.
        """
        config = read_train_config(folder, **changes)
        checkpoint = read_checkpoint(folder)
        if checkpoint["epoch"] >= config.epochs:
            raise ValueError(f"{folder} is finished: it has its {config.total_steps:,} steps")
        knobs, epoch = Knobs(**checkpoint["knobs"]), checkpoint["epoch"]
        if self.config is not None and Path(str(self.config.run_dir)) == Path(folder):
            knobs = self.knobs  # turned since, perhaps
        self._launch("resume", config, knobs, epochs_allowed=None, epoch=epoch)

    def go(self) -> None:
        """Go on after a pause."""
        self._order("go", "running")

    def pause(self) -> None:
        """Pause after the present epoch."""
        self._order("pause", "pausing")

    def step(self) -> None:
        """Train one more epoch, then pause again."""
        self._order("step", "pausing")

    def stop(self) -> None:
        """End after the present epoch; `resume` goes on from there."""
        self._order("stop", "stopping")

    def turn(self, **values: float) -> None:
        """Turn knobs; they act from the next epoch on.

        Raises:
            ValueError, AttributeError: on a value that is not allowed, or an unknown knob.
        """
        with self._lock:
            for name, value in values.items():
                setattr(self.knobs, name, value)
            if self._job is not None:
                self._job.order(order="knobs", **{n: getattr(self.knobs, n) for n in values})

    def close(self, patience: float = PATIENCE) -> None:
        """End the process and the thread; what was trained is on disk."""
        with self._lock:
            job = self._job
        if job is not None:
            job.close(patience)

    def _launch(
        self,
        what: str,
        config: TrainConfig,
        knobs: Knobs,
        *,
        epochs_allowed: int | None,
        epoch: int = 0,
    ) -> None:
        with self._lock:
            self._check(what)
            self.config, self.knobs, self.epoch, self.words = config, knobs, epoch, ""
            self.state = "starting" if epochs_allowed is None else "pausing"
            self._job = Job(
                self._hear,
                job="train",
                config=config_to_dict(config),
                knobs=vars(knobs),
                resume=what == "resume",
                epochs_allowed=epochs_allowed,
            )
        self._changed()

    def _order(self, order: str, state: str) -> None:
        with self._lock:
            self._check(order)
            assert self._job is not None
            self.state = state
            self._job.order(order=order)
        self._changed()

    def _check(self, what: str) -> None:
        if what not in self.possible:
            can = " or ".join(self.possible) or "nothing but wait"
            raise ValueError(f"cannot {what} a training that is {self.state}; it can {can}")

    def _hear(self, event: Event) -> None:
        with self._lock:
            what = event["event"]
            if what == "ready" and self.state == "starting":
                self.state = "running"
            elif what == "epoch":
                self.epoch = event["epoch"]
            elif what == "paused" and self.state == "pausing":
                self.state = "paused"
            elif what in ("finished", "stopped"):
                self.state = what
            elif what == "failed":
                self.state, self.words = "failed", self._with_advice(event["words"])
        self._changed()

    def _with_advice(self, words: str) -> str:
        """The reason, and where the training can be taken up again."""
        assert self.config is not None
        folder = str(self.config.run_dir)
        try:
            epoch = read_checkpoint(folder)["epoch"]
        except ValueError:
            return words
        named = "safe up to epoch" in words
        return words if named else f"{words}; {folder} is safe up to epoch {epoch}: resume it"
