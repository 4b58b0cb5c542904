"""How fast the environments are: stock, ours, and MuJoCo alone, in one run.

`python -m kfcpo_lib bench env`. The contestants take turns in rounds, so that a machine that is
busy with other things slows all of them; each ratio is the median over the rounds.

- stock: one stock environment, stepped by itself, with its share of a reset (one in an episode).
- raw physics: `mj_step` alone, ten times per step, in the whole stock world and on as many threads
  as ours has. Gremlins are led where stock leads them.
- ours: `SafetyVecEnv`, resets included.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from kfcpo_lib.benchmarks.results import save_results, table
from kfcpo_lib.envs.crew import Crew, available_processors
from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.safety_gym import make_stock
from kfcpo_lib.envs.vector import SafetyVecEnv
from kfcpo_lib.envs.worlds import compile_world, finish_model
from kfcpo_lib.plots import style

TASKS = ("PointGoal1", "CarGoal1", "PointButton1", "CarButton1")
CONTESTANTS = ("stock", "raw physics", "ours")
STOCK_STEPS = 200
"""Steps of the stock environment in a round; a reset takes the place of a thousand."""


def main(words: Sequence[str]) -> int:
    """Measure, print the tables, and store them and a picture under `--out`."""
    parser = argparse.ArgumentParser(prog="python -m kfcpo_lib bench env", description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="such as PointGoal1")
    parser.add_argument("--num-envs", type=int, default=20)
    parser.add_argument("--num-threads", type=int, default=available_processors())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100, help="vectorised steps in a round")
    parser.add_argument("--out", default="figures/bench")
    options = parser.parse_args(words)
    rows = []
    for task in options.tasks:
        rows.append(measure(f"Safety{task}-v0", options))
        print(table(rows[-1:]), flush=True)
    print(table(rows))
    save_results(options.out, "env", rows, **{**vars(options), "tasks": list(options.tasks)})
    draw(rows, Path(options.out) / "env.png")
    return 0


def measure(env_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Speeds, ratios, reset time, making time and memory of one task."""
    making = making_of_64(env_id, options.num_threads)
    contestants: list[Callable[[], float]] = [
        StockSpeed(env_id).round,
        RawPhysics(env_id, options).round,
        functools.partial(ours_round, *started(env_id, options), options.steps),
    ]
    speeds = np.array([[run() for run in contestants] for _ in range(options.rounds)])
    stock, raw, ours = np.median(speeds, axis=0)
    return {
        "task": env_id,
        "stock": round(stock),
        "raw physics": round(raw),
        "ours": round(ours),
        "ours / raw": round(float(np.median(speeds[:, 2] / speeds[:, 1])), 2),
        "ours / stock": round(float(np.median(speeds[:, 2] / speeds[:, 0])), 1),
        "reset ms": round(reset_milliseconds(env_id), 2),
        **making,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


class StockSpeed:
    """Steps per second of one stock environment, resets included."""

    def __init__(self, env_id: str) -> None:
        self.env = make_stock(env_id)
        self.env.reset(seed=0)
        self.env.action_space.seed(0)

    def round(self) -> float:
        """Time a reset and some steps; as if an episode's steps all took as long."""
        resetting = timed(self.env.reset)
        stepping = timed(self._steps) / STOCK_STEPS
        episode = self.env.spec.max_episode_steps
        return float(episode / (resetting + episode * stepping))

    def _steps(self) -> None:
        for _ in range(STOCK_STEPS):
            self.env.step(self.env.action_space.sample())


class RawPhysics:
    """Steps per second of `mj_step` alone, in the world as stock compiles it."""

    def __init__(self, env_id: str, options: argparse.Namespace) -> None:
        env = SafetyVecEnv(env_id, options.num_envs, 0, num_threads=1)
        env.reset()
        scene = env.scene
        self.steps, self.sub_steps = options.steps, scene.sub_steps
        self.targets = scene.mocap_targets(env.max_episode_steps)
        self.crew = Crew(options.num_threads)
        self.worlds = []
        for simulator in env._simulators:
            model = compile_world(scene.world.stock_xml)
            copy_poses(simulator.model, model)
            data = mujoco.MjData(model)
            finish_model(model, data)
            self.worlds.append((model, data))
        self.actions = random_actions(env, self.steps)
        self.done = 0

    def round(self) -> float:
        """Time the same number of steps that ours takes in a round."""
        return float(len(self.worlds) * self.steps / timed(self._steps))

    def _steps(self) -> None:
        for step in range(self.steps):
            jobs = [
                functools.partial(self._simulate, i, self.actions[step, i], self.done)
                for i in range(len(self.worlds))
            ]
            self.crew.run(jobs)
            self.done += 1

    def _simulate(self, i: int, ctrl: Array, step: int) -> None:
        model, data = self.worlds[i]
        data.ctrl[:] = ctrl
        for sub_step in range(self.sub_steps):
            if self.targets is not None:
                data.mocap_pos[:] = self.targets[step % len(self.targets), sub_step]
            mujoco.mj_step(model, data)


def copy_poses(source: Any, target: Any) -> None:
    """Put the bodies of `target` where the bodies of the same name stand in `source`."""
    for i in range(source.nbody):
        body = target.body(source.body(i).name).id
        target.body_pos[body], target.body_quat[body] = source.body_pos[i], source.body_quat[i]
    target.qpos0[:], target.qpos_spring[:] = source.qpos0, source.qpos_spring


def started(env_id: str, options: argparse.Namespace) -> tuple[SafetyVecEnv, Array]:
    """Our environments, warm, with episodes that end evenly, and actions for a round."""
    env = SafetyVecEnv(env_id, options.num_envs, 0, options.num_threads)
    env.reset(stagger=True)
    actions = random_actions(env, options.steps)
    ours_round(env, actions, 10)
    return env, actions


def random_actions(env: SafetyVecEnv, steps: int) -> Array:
    """[steps, num_envs, act_dim] uniform between -1 and 1."""
    return np.random.default_rng(0).uniform(-1, 1, (steps, env.num_envs, env.act_dim))


def ours_round(env: SafetyVecEnv, actions: Array, steps: int) -> float:
    """Steps per second of ours in one round."""

    def take_steps() -> None:
        for step in range(steps):
            env.step(actions[step])

    return env.num_envs * steps / timed(take_steps)


def reset_milliseconds(env_id: str, repeats: int = 10) -> float:
    """Mean time of one environment's reset."""
    env = SafetyVecEnv(env_id, 10, 0, num_threads=1)
    env.reset()
    return 1e3 * timed(lambda: [env.reset() for _ in range(repeats)]) / (10 * repeats)


def making_of_64(env_id: str, num_threads: int) -> dict[str, float]:
    """Seconds to make and reset 64 environments, and memory for each of 63 more than one.

    Making the first one reads stock's textures, whose memory is given back; so the one comes first.
    """
    small = SafetyVecEnv(env_id, 1, 0, num_threads=1)
    small.reset()
    before = resident_megabytes()
    start = time.perf_counter()
    env = SafetyVecEnv(env_id, 64, 0, num_threads)
    env.reset()
    seconds = time.perf_counter() - start
    for action in random_actions(env, 5):
        env.step(action)
    return {
        "64 made in s": round(seconds, 1),
        "MB per env": round((resident_megabytes() - before) / 64, 2),
    }


def resident_megabytes() -> float:
    """Memory of this process now, on Linux; elsewhere not a number."""
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return float("nan")
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def timed(action: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of the three speeds for each task, on a logarithmic axis."""
    figure, axes = style.new_figure(width=9, height=4.5)
    colours = (style.NEUTRAL, style.SECOND, style.COMMITTED)
    for k, (name, colour) in enumerate(zip(CONTESTANTS, colours, strict=True)):
        places = np.arange(len(rows)) + 0.27 * (k - 1)
        bars = axes.bar(places, [row[name] for row in rows], 0.25, label=name, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=style.FONT_SIZE - 4)
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row["task"][6:-3] for row in rows])
    style.label(axes, "Safety Gymnasium: steps per second", "", "steps / s (log scale)")
    style.legend(axes, loc="upper right", ncols=3)
    axes.set_ylim(top=3 * max(row[name] for row in rows for name in CONTESTANTS))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(style.png(figure))
