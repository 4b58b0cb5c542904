"""An episode filmed by MuJoCo, where the machine has OpenGL (EGL or OSMesa do without a screen)."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.background import Event, Job
from kfcpo_lib.envs.safety_gym import make_stock
from kfcpo_lib.evaluation import EVALUATION_SEED, check_actions, load_policy, make_actor

ADVICE = (
    "on Debian and Ubuntu `apt-get install libegl1 libgl1-mesa-dri`, or libosmesa6 alone, "
    "gives OpenGL to a machine without a screen"
)


class NoFilmError(RuntimeError):
    """MuJoCo cannot draw on this machine; the text says what was tried and what helps."""


def film(
    run: str | Path,
    name: str = "policy.pt",
    *,
    actions: str = "sampled",
    seed: int = EVALUATION_SEED,
    steps: int = 300,
    every: int = 5,
    camera: str = "track",
    size: int = 256,
) -> bytes:
    """The beginning of an episode as an MP4 film: the very episode that `watch` shows from above.

    Args:
        run: the run's folder, of a Safety Gymnasium task.
        name: file of the policy in it.
        actions: `sampled` or `mean`.
        seed: stock seed of the world.
        steps: how many are played, at most 1,000.
        every: so many steps between two pictures; 1: real time has 50 pictures a second.
        camera: `track` behind the agent, `fixedfar` or `fixednear` from outside, `vision` its own.
        size: width and height in pixels.

    Raises:
        ValueError: if there is no such policy, its task is not of Safety Gymnasium, or `actions`,
            `every` or `size` is not allowed.
        NoFilmError: if there is no OpenGL.
    """
    env_id = load_policy(run, name)[2]
    if not env_id.startswith("Safety"):
        raise ValueError(f"{env_id} has no film: MuJoCo draws tasks of Safety Gymnasium only")
    check_actions(actions)  # here, so that nobody takes it for missing OpenGL
    for word, value in (("every", every), ("size", size)):
        if value < 1:
            raise ValueError(f"{word} must be at least 1, got {value!r}")
    settings = {"run": str(run), "name": name, "actions": actions, "seed": seed, "steps": steps}
    settings |= {"every": every, "camera": camera, "size": size}
    reasons = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        for way in ways():
            end = _run_job({"MUJOCO_GL": way} if way else {}, path=str(path), **settings)
            if end["event"] == "finished":
                return path.read_bytes()
            reasons.append(f"{way or 'OpenGL'}: {end['words']}")
    raise NoFilmError(f"no film on this machine ({'; '.join(reasons)}); {ADVICE}")


def ways() -> list[str]:
    """What to try as MUJOCO_GL, which must be set before MuJoCo is imported."""
    if "MUJOCO_GL" in os.environ:
        return [os.environ["MUJOCO_GL"]]
    return ["egl", "osmesa"] if sys.platform == "linux" else [""]


def _run_job(environ: dict[str, str], **settings: Any) -> Event:
    """How it ended."""
    events = SimpleQueue[Event]()
    with closing(Job(events.put, environ, job="film", **settings)):
        return events.get()


def shoot(path: str, every: int, **episode: Any) -> None:
    """Film an episode in this process, which has the right MUJOCO_GL."""
    import imageio

    frames = list(pictures(every=every, **episode))
    imageio.mimsave(path, frames, fps=50 / every, macro_block_size=1)  # type: ignore[arg-type]


def pictures(
    run: str, name: str, actions: str, seed: int, steps: int, every: int, camera: str, size: int
) -> Iterator[NDArray[np.uint8]]:
    """[size, size, 3] after every so many steps of an episode in the stock environment."""
    env_id = load_policy(run, name)[2]
    act = make_actor(run, name, actions, seed)
    looks = {"width": size, "height": size, "camera_name": camera}
    env = make_stock(env_id, render_mode="rgb_array", **looks)
    obs, _ = env.reset(seed=seed)
    yield env.render()
    for number in range(1, min(steps, env.spec.max_episode_steps) + 1):
        obs = env.step(act(obs[None])[0])[0]
        if number % every == 0:
            yield env.render()
