"""Safety Gymnasium at the speed of its physics: many environments, stock numbers to the bit.

Environment i of `SafetyVecEnv(id, n, seed)` gives what the stock environment gives after
`reset(seed=seed + i)`, and goes on drawing from the same generator at later resets. The stock task
object stays the source of layouts, sizes, prices and the XML (`scenes.py`, `worlds.py`); layouts
are drawn by `layouts.py`, physics is stepped by `simulator.py` on the threads of `crew.py`,
observations and rewards of all environments are computed together (`lidar.py`, `rules.py`).
"""

import functools
import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from safety_gymnasium.tasks import (
    ButtonLevel0,
    CircleLevel0,
    GoalLevel0,
    PushLevel0,
)

from kfcpo_lib.envs.crew import Crew, available_processors
from kfcpo_lib.envs.interface import Array, StepResult, staggered_lengths
from kfcpo_lib.envs.layouts import LayoutError
from kfcpo_lib.envs.lidar import Observer
from kfcpo_lib.envs.rules import (
    ButtonRules,
    CircleRules,
    GoalRules,
    PushRules,
    Rules,
    distance,
)
from kfcpo_lib.envs.safety_gym import make_stock
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.simulator import Readings, Simulator

FAMILIES: dict[type, type[Rules]] = {
    GoalLevel0: GoalRules,
    ButtonLevel0: ButtonRules,
    PushLevel0: PushRules,
    CircleLevel0: CircleRules,
}
"""Stock task families and their vectorised rules; levels 1 and 2 inherit from level 0."""


SOURCE = "safety_gymnasium.tasks.safe_navigation."
"""Where those families live; descendants elsewhere (in `safe_vision`) change the rules."""


def rules_of(task: Any) -> type[Rules] | None:
    """The vectorised rules of a stock task; None if there are none."""
    plain = (
        not task.action_noise
        and task.sim_conf.frameskip_binom_p == 1.0
        and task.cost_conf.constrain_indicator
        and task.lidar_conf.type == "pseudo"
        and task.lidar_conf.alias
        and task.mechanism_conf.continue_goal
        and not task.reward_conf.reward_orientation
        and not task.observe_vision
    )
    families = [rules for family, rules in FAMILIES.items() if isinstance(task, family)]
    return families[0] if plain and families and type(task).__module__.startswith(SOURCE) else None


class UnsupportedTaskError(ValueError):
    """The task has no vectorised rules."""


class SafetyVecEnv:
    """`num_envs` Safety Gymnasium environments stepped together; see `VecEnv`.

    Args:
        env_id: a Safety Gymnasium task such as `SafetyPointGoal1-v0`.
        num_envs: how many environments.
        seed: seed of environment 0; environment i has `seed + i`.
        num_threads: threads of the simulator; None: one per processor. Changes no number.

    Raises:
        UnsupportedTaskError: if the task is not among the vectorised ones.
    """

    def __init__(
        self, env_id: str, num_envs: int, seed: int, num_threads: int | None = None
    ) -> None:
        stock = make_stock(env_id)
        task = getattr(stock.unwrapped, "task", None)
        family = rules_of(task) if task is not None else None
        if family is None:
            raise UnsupportedTaskError(f"{env_id} has no vectorised rules")
        self.env_id, self.num_envs = env_id, num_envs
        self.max_episode_steps = int(stock.spec.max_episode_steps)
        self.simulator_errors = 0
        self.scene = Scene(task)
        self.act_dim = int(self.scene.model.nu)
        self._generators = [np.random.RandomState(seed + i) for i in range(num_envs)]
        self._allocate(family)
        threads = available_processors() if num_threads is None else num_threads
        self._crew = Crew(max(1, min(threads, num_envs)))

    def _allocate(self, family: type[Rules]) -> None:
        n, scene = self.num_envs, self.scene
        self._readings = Readings(n, scene)
        self._places = np.zeros((n, len(scene.names), 3))
        self._rules = family(scene, self._readings, self._places)
        self._simulators = [Simulator(scene, self._readings, i) for i in range(n)]
        self._jobs = [functools.partial(self._simulate, i) for i in range(n)]
        self._observer = Observer(scene)
        self.obs_dim = self._observer.obs_dim
        self.obs_shape: tuple[int, ...] = (self.obs_dim,)
        self._all = np.arange(n)
        self._targets = scene.mocap_targets(self.max_episode_steps)
        self._times = scene.times(self.max_episode_steps)[:: scene.sub_steps]
        self._lowest, self._highest = scene.model.actuator_ctrlrange.T.copy()
        self._ctrl = np.zeros((n, self.act_dim))
        self._obs = np.zeros((n, self.obs_dim))
        self._steps = np.zeros(n, dtype=np.int64)
        self._cut_after = np.full(n, self.max_episode_steps, dtype=np.int64)
        self._undrawn = np.zeros(n, dtype=np.int64)
        self._started = np.zeros(n, dtype=bool)
        self._broken = np.zeros(n, dtype=bool)

    def reset(self, *, stagger: bool = False) -> Array:
        """Start new episodes; [num_envs, obs_dim]."""
        self._cut_after[:] = self.max_episode_steps
        for i in range(self.num_envs):
            self._restart(i)
        if stagger:
            self._cut_after[:] = staggered_lengths(self.num_envs, self.max_episode_steps)
        self._obs = self._observe(self._all)
        return self._obs.copy()

    def step(self, actions: Array) -> StepResult:
        """Step all environments; `actions` is [num_envs, act_dim]."""
        np.minimum(np.maximum(actions, self._lowest), self._highest, out=self._ctrl)
        self._broken[:] = False
        self._crew.run(self._jobs)
        self._steps += 1
        self._undrawn += 1
        self._find_places(self._all)
        self._find_touches()
        reward, achieved = self._rules.reward()
        cost = self._rules.cost()
        self._rules.tick()
        terminated = self._renew_goals(achieved & ~self._broken) | ~self._alive()
        final_obs = self._observe(self._all)
        self._mend(final_obs, reward, cost, terminated)
        truncated = (self._steps >= self._cut_after) | self._broken
        self._obs = self._auto_reset(terminated | truncated, final_obs)
        return StepResult(self._obs.copy(), reward, cost, terminated, truncated, final_obs)

    def _simulate(self, i: int) -> None:
        """Physics of one step of environment i; called on any thread."""
        step, simulator = self._steps[i], self._simulators[i]
        try:
            simulator.step(self._ctrl[i], None if self._targets is None else self._targets[step])
        except (mujoco.FatalError, mujoco.UnexpectedError):
            self._broken[i] = True
            return
        # After a bad acceleration MuJoCo starts the simulation anew: the clock tells.
        self._broken[i] = simulator.data.time < self._times[step + 1]

    def _find_places(self, rows: NDArray[np.intp]) -> None:
        """Positions of the moving objects, from the physics."""
        scene = self.scene
        self._places[rows[:, None], scene.moving] = self._readings.xpos[
            rows[:, None], scene.moving_bodies
        ]

    def _find_touches(self) -> None:
        """What each agent touches; contacts are looked at only where something is near enough."""
        scene, touched = self.scene, self._readings.touched
        if scene.touchable:
            touched[:] = False
            apart = self._places[:, scene.touch_places, :2] - self._rules.agent_pos()[:, None, :2]
            near = (distance(apart) <= scene.touch_distance).any(axis=1)
            for i in np.flatnonzero(near):
                self._simulators[i].touch()

    def _renew_goals(self, achieved: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """New goals where one was reached; [num_envs] whether none was found, which is the end."""
        stuck = np.zeros(self.num_envs, dtype=bool)
        for i in np.flatnonzero(achieved):
            try:
                self._rules.draw_goal(i, self._generator(i))
            except LayoutError:
                stuck[i] = True
                continue
            self._rules.remember(i)
            # Stock runs mj_forward after the old layout, the new goal and for the observation; the
            # first of these three is the last one of the step.
            self._simulators[i].forward(2)
            self._simulators[i].read()
        return stuck

    def _generator(self, i: int) -> np.random.RandomState:
        """Environment i's generator, after the number of sub-steps that stock draws each step."""
        conf = self.scene.task.sim_conf
        if self._undrawn[i]:
            self._generators[i].binomial(
                conf.frameskip_binom_n, conf.frameskip_binom_p, size=self._undrawn[i]
            )
            self._undrawn[i] = 0
        return self._generators[i]

    def _alive(self) -> NDArray[np.bool_]:
        """[num_envs] whether the stock agent says so."""
        if not self.scene.mortal:
            return np.ones(self.num_envs, dtype=bool)
        bind = self.scene.bind
        return np.array([bind(sim.model, sim.data).is_alive() for sim in self._simulators])

    def _observe(self, rows: NDArray[np.intp]) -> Array:
        """[rows, obs_dim]"""
        obs = self._observer.observe(self._readings, self._places, rows)
        self._rules.hide(obs, rows, self._observer.lidar_span)
        return obs

    def _mend(self, obs: Array, reward: Array, cost: Array, terminated: NDArray[np.bool_]) -> None:
        """Where the simulator failed: stock's reward for it, cost 1, the last good observation."""
        broken = self._broken
        if math.isfinite(obs.sum()) and not broken.any():
            return
        broken |= ~np.isfinite(obs).all(axis=1)
        self.simulator_errors += int(broken.sum())
        obs[broken] = self._obs[broken]
        reward[broken] = self._rules.conf.reward_exception
        cost[broken] = 1.0
        terminated[broken] = False

    def _auto_reset(self, ended: NDArray[np.bool_], final_obs: Array) -> Array:
        """The observations to act on next."""
        rows = np.flatnonzero(ended)
        if not len(rows):
            return final_obs
        for i in rows:
            self._restart(i)
        obs = final_obs.copy()
        obs[rows] = self._observe(rows)
        return obs

    def _restart(self, i: int) -> None:
        """Start a new episode in environment i, with every draw and forward of a stock reset."""
        scene, simulator, generator = self.scene, self._simulators[i], self._generator(i)
        config = scene.configure(scene.sampler.sample(generator), generator)
        scene.world.place(simulator.model, simulator.data, config)
        self._places[i] = scene.resting_places(config)
        # The first stock reset compiles a fresh world, later ones rebuild it and forward once more.
        simulator.restart(forwards=2 if self._started[i] else 1)
        self._started[i] = True
        self._steps[i], self._cut_after[i] = 0, self.max_episode_steps
        self._first_goal(i, generator)
        simulator.settled &= not self._agent_moves(i)
        simulator.forward(2)
        simulator.read()

    def _first_goal(self, i: int, generator: np.random.RandomState) -> None:
        if "goal" in self.scene.columns:
            self._simulators[i].read()
            self._rules.draw_goal(i, generator)
            self._rules.remember(i)
            self._simulators[i].forward()
        self._rules.begin(i)

    def _agent_moves(self, i: int) -> bool:
        """Let the stock agent take its starting pose; whether it moved."""
        simulator = self._simulators[i]
        before = simulator.data.qpos.copy()
        self.scene.bind(simulator.model, simulator.data).reset()
        return not np.array_equal(before, simulator.data.qpos)

    def state(self) -> dict[str, Any]:
        """Everything the future depends on, as nested dicts of arrays and numbers."""
        generators = [self._generator(i).get_state(legacy=False) for i in self._all]
        return {
            "env_id": self.env_id,
            "simulator_errors": self.simulator_errors,
            "steps": self._steps.copy(),
            "cut_after": self._cut_after.copy(),
            "started": self._started.copy(),
            "obs": self._obs.copy(),
            "places": self._places.copy(),
            "memory": {name: values.copy() for name, values in self._rules.memory.items()},
            "physics": [simulator.state() for simulator in self._simulators],
            "generator_keys": np.array([g["state"]["key"] for g in generators], dtype=np.int64),
            "generator_positions": [int(g["state"]["pos"]) for g in generators],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state()` of an environment of the same id and size returned."""
        if state["env_id"] != self.env_id or len(state["steps"]) != self.num_envs:
            raise ValueError(
                f"the state of {len(state['steps'])} {state['env_id']} does not fit "
                f"{self.num_envs} {self.env_id}"
            )
        self.simulator_errors = int(state["simulator_errors"])
        self._steps[:], self._cut_after[:] = state["steps"], state["cut_after"]
        self._started[:], self._undrawn[:] = state["started"], 0
        self._obs, self._places[:] = np.array(state["obs"]), state["places"]
        for name, values in self._rules.memory.items():
            values[:] = state["memory"][name]
        for i, generator in enumerate(self._generators):
            key = np.asarray(state["generator_keys"][i], dtype=np.uint32)
            generator.set_state(("MT19937", key, int(state["generator_positions"][i]), 0, 0.0))
            self._simulators[i].set_state(state["physics"][i])

    def layout(self) -> dict[str, Any]:
        """Where everything is, for drawing from above.

        Returns:
            `agent`: [num_envs, 2] metres. `agent_heading`: [num_envs] radians, of the agent's
            x axis. `objects`: for each kind (`goal`, `hazards`, `vases`, `buttons`, `gremlins`,
            `pillars`, `push_box`, `circle`, `sigwalls`) an array [num_envs, count, 2], metres.
            `sizes`: for each kind its radius, or half its side, or for walls half their length,
            metres. `goal_button`: [num_envs] which button is the goal, in Button tasks only.
        """
        sizes = {
            name: float(getattr(obstacle, "radius", None) or obstacle.size)
            for name, obstacle in self.scene.obstacles.items()
        }
        mat = self._readings.agent_mat
        layout = {
            "agent": self._rules.agent_pos()[:, :2].copy(),
            "agent_heading": np.arctan2(mat[:, 3], mat[:, 0]),
            "objects": {
                name: self._places[:, columns, :2].copy()
                for name, columns in self.scene.columns.items()
            },
            "sizes": sizes,
        }
        if "goal_button" in self._rules.memory:
            layout["goal_button"] = self._rules.memory["goal_button"].copy()
        return layout

    def close(self) -> None:
        """Free threads and simulators."""
        self._crew.close()
