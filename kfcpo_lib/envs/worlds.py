"""A task's world, compiled once: a reset moves bodies instead of compiling the XML again.

Stock Safety Gymnasium compiles its XML at every reset, textures included, which takes longer than
the thousand steps of the episode. Here the stock XML is compiled once, without textures, cameras
and lights, and without the bodies that collide with nothing (hazards, goal): physics does not feel
them, and spends a fifth of its time on them. Where they stand is kept by the environment. What can
touch what is listed (`contacts.py`).
"""

import copy
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import xmltodict
from safety_gymnasium.utils.common_utils import rot2quat
from safety_gymnasium.world import World as StockWorld

from kfcpo_lib.envs.contacts import listable_pairs, use_listed_pairs
from kfcpo_lib.envs.interface import Array

ARENA = "16M"
"""Memory for contacts and constraints. The stock files reserve 60 to 480 MB and use 1."""


class World:
    """The compiled model of a task, to be copied for each environment.

    Args:
        task: the stock task.
        config: one of its world configurations (`task._build_world_config`).
    """

    def __init__(self, task: Any, config: dict[str, Any]) -> None:
        stock = StockWorld(task.agent, task._obstacles, config)
        stock.build()
        self.stock_xml = stock.xml
        self.agent_height = float(task.agent.z_height)
        self.touchless = [
            name
            for name, geom in config["geoms"].items()
            if not geom.get("contype", 1) and not geom.get("conaffinity", 1)
        ]
        self.model = compile_lean_world(stock.xml, self.touchless)
        self._list_bodies(config)

    def _list_bodies(self, config: dict[str, Any]) -> None:
        """The bodies to place, the agent first, and where `qpos` has those that move freely."""
        model, kind = self.model, mujoco.mjtObj.mjOBJ_BODY
        self._felt = [name for name in things_of(config) if name not in self.touchless]
        names = ["agent", *self._felt]
        self._bodies = np.array([mujoco.mj_name2id(model, kind, name) for name in names])
        joints = model.body_jntadr[self._bodies]
        free = model.jnt_type[joints] == int(mujoco.mjtJoint.mjJNT_FREE)
        self._free = (joints >= 0) & free
        self._coordinates = model.jnt_qposadr[joints[self._free], None] + np.arange(7)

    def place(self, model: Any, data: Any, config: dict[str, Any]) -> None:
        """Put everything where `config` says, and the simulation back to its start.

        Gives the model that compiling the XML of `config` would give.
        """
        things = things_of(config)
        felt = [things[name] for name in self._felt]
        agent_pos = [*config["agent_xy"], self.agent_height]
        positions = np.array([agent_pos, *(thing["pos"] for thing in felt)])
        quats = np.array(
            [_unit_quat(rot) for rot in (config["agent_rot"], *(thing["rot"] for thing in felt))]
        )
        model.body_pos[self._bodies], model.body_quat[self._bodies] = positions, quats
        starts = np.hstack([positions, quats])[self._free]
        model.qpos0[self._coordinates] = model.qpos_spring[self._coordinates] = starts
        finish_model(model, data)


def things_of(config: dict[str, Any]) -> dict[str, Any]:
    """The objects of a world configuration; of gremlins those that are felt."""
    return {**config["geoms"], **config["free_geoms"]}


def compile_lean_world(stock_xml: Any, dropped: Sequence[str]) -> Any:
    """`compile_world` with a list of the contacts to look for, if that is faster."""
    model = compile_world(stock_xml, dropped)
    pairs = listable_pairs(model)
    if pairs:
        model = compile_world(stock_xml, dropped, pairs)
        use_listed_pairs(model)
    return model


def compile_world(
    stock_xml: Any, dropped: Sequence[str] = (), pairs: Sequence[tuple[str, str]] = ()
) -> Any:
    """The model of a stock XML dictionary, without visuals and the bodies named in `dropped`.

    Args:
        stock_xml: what the stock world builds.
        dropped: names of bodies to leave out.
        pairs: names of geoms that may touch, to be listed in the model.
    """
    xml = copy.deepcopy(stock_xml)
    world, asset = xml["mujoco"]["worldbody"], xml["mujoco"]["asset"]
    world["body"] = [body for body in world["body"] if body["@name"] not in dropped]
    asset["texture"], asset["material"] = [], []
    _drop_visuals(xml)
    xml["mujoco"]["size"] = {"@memory": ARENA}
    if pairs:
        listed = [{"@geom1": one, "@geom2": other} for one, other in pairs]
        xml["mujoco"]["contact"] = {"pair": listed}
    return mujoco.MjModel.from_xml_string(xmltodict.unparse(xml))


def finish_model(model: Any, data: Any) -> None:
    """Derive the constants of a model whose bodies were moved, and reset its data."""
    if model.neq:
        # A null quaternion asks MuJoCo to measure the weld's relative pose at the start.
        welds = model.eq_type == int(mujoco.mjtEq.mjEQ_WELD)
        model.eq_data[welds, 6:10] = 0.0
    # Constants are measured where the data has the mocap bodies, so the data is reset before, too.
    mujoco.mj_resetData(model, data)
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)


def _unit_quat(rot: float) -> Array:
    """[4] a turn by `rot` radians about the vertical, of length 1 as the compiler makes it."""
    quat: Array = rot2quat(rot)
    return np.asarray(quat / np.sqrt(quat @ quat))


def _drop_visuals(node: Any) -> None:
    if isinstance(node, dict):
        for visual in ("@material", "camera", "light"):
            node.pop(visual, None)
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _drop_visuals(child)
