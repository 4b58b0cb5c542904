"""What a stock task consists of, read from it once: objects, bodies, contacts, constants."""

from typing import Any

import mujoco
import numpy as np
from safety_gymnasium.bases.base_object import Mocap

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.layouts import LayoutSampler
from kfcpo_lib.envs.worlds import World, things_of

TOUCHABLE = ("buttons", "vases", "gremlins", "pillars")
"""Objects whose contact with the agent stock tasks look for."""


class Scene:
    """A task and its compiled world; nothing in it changes after construction.

    Objects get columns: `columns["hazards"]` are those of all hazards in `[num_envs, columns, 3]`
    arrays of positions.

    Args:
        task: a stock task that was never reset.
    """

    def __init__(self, task: Any) -> None:
        self.task = task
        task._build_placements_dict()
        conf = task.placements_conf
        task.random_generator.set_placements_info(conf.placements, conf.extents, conf.margin)
        task.random_generator.set_random_seed(0)
        self.sampler = LayoutSampler(task)
        layout = self.sampler.sample(task.random_generator.random_generator)
        self._config: dict[str, Any] = task._build_world_config(layout)
        self.world = World(task, self._config)
        del self._config["mocaps"]
        self.model = self.world.model
        self.engine = task.agent.engine
        self.bind(self.model, mujoco.MjData(self.model))
        self.sub_steps = int(task.sim_conf.frameskip_binom_n)
        self.agent_body = self._id(mujoco.mjtObj.mjOBJ_BODY, "agent")
        self.needs_agent_velocity = hasattr(task, "circle")
        self.mortal = self._agent_is_mortal()
        self._list_objects()
        self._list_things(layout)
        self._list_contacts()

    def bind(self, model: Any, data: Any) -> Any:
        """Let the stock agent look at this simulation; returns the agent."""
        self.engine.update(model, data)
        return self.task.agent

    def _id(self, kind: Any, name: str) -> int:
        return int(mujoco.mj_name2id(self.model, kind, name))

    def _agent_is_mortal(self) -> bool:
        """Whether the stock agent looks at the simulation before it says that it is alive."""
        self.bind(None, None)
        try:
            return not self.task.agent.is_alive()
        except AttributeError:
            return True
        finally:
            self.bind(self.model, mujoco.MjData(self.model))

    def _list_objects(self) -> None:
        self.obstacles = {obstacle.name: obstacle for obstacle in self.task._obstacles}
        self.columns: dict[str, slice] = {}
        self.names: list[str] = []
        for name, obstacle in self.obstacles.items():
            start = len(self.names)
            self.names += _body_names(obstacle)
            self.columns[name] = slice(start, len(self.names))
        bodies = [self._id(mujoco.mjtObj.mjOBJ_BODY, name) for name in self.names]
        self.moving = np.array([i for i, body in enumerate(bodies) if body >= 0], dtype=np.intp)
        """Columns of the objects that physics knows; the others stay where the layout put them."""
        self.moving_bodies = np.array([body for body in bodies if body >= 0], dtype=np.intp)
        vases = bodies[self.columns["vases"]] if "vases" in self.columns else []
        self.vase_dofs = np.array([self.model.body_dofadr[b] + np.arange(3) for b in vases])
        """[vases, 3] where `qvel` has their linear velocities."""

    def _list_things(self, layout: dict[str, Any]) -> None:
        """Of each object: its name in layouts, its part of the configuration, if it is turned."""
        things = things_of(self._config)
        others = things_of(self.task._build_world_config(layout))
        self._things = [
            (name.removesuffix("obj"), things[name], things[name]["rot"] != others[name]["rot"])
            for name in self.names
        ]

    def configure(self, layout: dict[str, Any], generator: np.random.RandomState) -> dict[str, Any]:
        """`task._build_world_config(layout)` without mocap bodies, drawn from `generator`.

        Only what differs between two layouts is written, into the same dictionary at each call.
        """
        source = self.task.random_generator
        source.random_generator = generator
        self._config["agent_xy"] = layout["agent"]
        if self.task.agent.rot is None:
            self._config["agent_rot"] = source.random_rot()
        for name, thing, turned in self._things:
            rot = source.random_rot()
            thing["pos"][:2] = layout[name]
            if turned:
                thing["rot"] = rot
        return self._config

    def _list_contacts(self) -> None:
        """Number the things whose contact with the agent matters, by pairs of geoms."""
        kind = mujoco.mjtObj.mjOBJ_GEOM
        geoms = [mujoco.mj_id2name(self.model, kind, i) or "" for i in range(self.model.ngeom)]
        agent = [i for i, name in enumerate(geoms) if name in self.task.agent.body_info.geom_names]
        self.touchable = [
            name
            for group in TOUCHABLE
            if group in self.obstacles and (group == "buttons" or self.costs(group))
            for name in self.names[self.columns[group]]
        ]
        things = [(column, self._id(kind, name)) for column, name in enumerate(self.touchable)]
        self.touch_column = {
            pair: column
            for column, thing in things
            for geom in agent
            for pair in ((geom, thing), (thing, geom))
        }
        self.touch_places = np.array([self.names.index(n) for n in self.touchable], dtype=np.intp)
        """Columns in the arrays of positions of what can be touched."""
        agent_reach = max(self._reach(geom) for geom in agent)
        reaches = [agent_reach + self._reach(thing) for _, thing in things]
        self.touch_distance = np.array(reaches)
        """[touchable things] no contact beyond this distance between the bodies, metres."""

    def _reach(self, geom: int) -> float:
        """No point of a geom is farther than this from the body at the root of its tree, metres."""
        model = self.model
        body = model.geom_bodyid[geom]
        reach = model.geom_rbound[geom] + model.geom_margin[geom]
        reach += np.linalg.norm(model.geom_pos[geom])
        while model.body_parentid[body]:
            joints = model.body_jntadr[body] + np.arange(model.body_jntnum[body])
            reach += np.linalg.norm(model.body_pos[body])
            reach += 2 * np.linalg.norm(model.jnt_pos[joints], axis=1).sum()
            body = model.body_parentid[body]
        return float(reach)

    def costs(self, group: str) -> bool:
        """Whether objects of this group cost anything."""
        return group in self.obstacles and bool(self.obstacles[group].is_constrained)

    def touch_columns(self, group: str) -> slice:
        """Columns of the group in `Readings.touched`."""
        names = self.names[self.columns[group]]
        start = self.touchable.index(names[0])
        return slice(start, start + len(names))

    def resting_places(self, config: dict[str, Any]) -> Array:
        """[columns, 3] where a world configuration puts the objects (0 for gremlins, 3-D)."""
        things = things_of(config)
        places = np.array([things[name]["pos"] for name in self.names]).reshape(-1, 3)
        if "circle" in self.columns:
            # Stock looks at the circle's centre, not at the body that is drawn a nanometre off.
            places[self.columns["circle"]] = self.obstacles["circle"].pos
        return places

    def mocap_targets(self, num_steps: int) -> Array | None:
        """[num_steps, sub_steps, 3] where gremlins are led before each sub-step of an episode."""
        if "gremlins" not in self.obstacles:
            return None
        gremlins = self.obstacles["gremlins"]
        times = self.times(num_steps)[:-1]
        # One number at a time, as stock does: a vectorised sine may differ in the last bit.
        circle = np.array([[np.sin(t), np.cos(t)] for t in times]) * gremlins.travel
        targets = np.column_stack([circle, np.full(len(times), gremlins.size)])
        return targets.reshape(num_steps, self.sub_steps, 3)

    def times(self, num_steps: int) -> Array:
        """[num_steps · sub_steps + 1] simulated time before each sub-step, seconds, and after."""
        ticks = np.full(num_steps * self.sub_steps + 1, self.model.opt.timestep)
        ticks[0] = 0.0
        return np.cumsum(ticks)


def _body_names(obstacle: Any) -> list[str]:
    """Names of the bodies of an obstacle, as the stock tasks form them."""
    if not hasattr(obstacle, "num"):
        return [obstacle.name]
    suffix = "obj" if isinstance(obstacle, Mocap) else ""
    return [f"{obstacle.name[:-1]}{i}{suffix}" for i in range(obstacle.num)]
