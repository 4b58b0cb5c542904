"""One environment's physics: MuJoCo's bits of a stock step, with less of its work.

A stock step calls `mj_step` ten times and `mj_forward` at least three times, all with sensors. The
same numbers come out of less:

- Sensors are off during the ten sub-steps; nobody reads them there.
- A repeated `mj_forward` goes on with the constraint solver from where the last one stopped, which
  changes bits, so each one is needed; but positions and velocities are the same, so their stages
  are skipped. One exception: `mj_forward` normalises the quaternions in `qpos`, and normalising
  one twice may move its last bit. `_is_settled` tells, and then nothing is skipped.
- For the same reason the first sub-step may begin after its first two stages.
- Gremlins are led by `mujoco.rollout`: one call for all sub-steps, during which other threads work.
"""

import copy
from typing import Any

import mujoco
import numpy as np
from mujoco.rollout import rollout

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.worlds import finish_model

NO_SENSORS = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
VELOCITY_STAGE = int(mujoco.mjtStage.mjSTAGE_VEL)

STATE = ("qpos", "qvel", "act", "ctrl", "qacc_warmstart", "mocap_pos", "mocap_quat")
"""Arrays of the data that the next step starts from."""
POSES = ("body_pos", "body_quat", "qpos0", "qpos_spring")
"""Arrays of the model that a reset sets; the others are derived from them."""


class Readings:
    """What observations, rewards and costs need from the physics; a row per environment."""

    def __init__(self, num_envs: int, scene: Scene) -> None:
        model = scene.model
        self.xpos = np.zeros((num_envs, model.nbody, 3))
        """[num_envs, bodies, 3] positions, metres."""
        self.agent_mat = np.zeros((num_envs, 9))
        """[num_envs, 9] rotation matrix of the agent, row by row."""
        self.sensors = np.zeros((num_envs, model.nsensordata))
        """[num_envs, sensor values]"""
        self.qvel = np.zeros((num_envs, model.nv))
        """[num_envs, nv] generalised velocities."""
        self.agent_jacobian = np.zeros((num_envs, 3, model.nv))
        """[num_envs, 3, nv] of the agent's position; only if the scene's reward needs it."""
        self.touched = np.zeros((num_envs, len(scene.touchable)), dtype=bool)
        """[num_envs, touchable things] whether the agent touches it."""


class Simulator:
    """The physics of environment `index`; results go to its row of `readings`."""

    def __init__(self, scene: Scene, readings: Readings, index: int) -> None:
        self.model = copy.copy(scene.model)
        self.data = mujoco.MjData(self.model)
        self.scene = scene
        self.sub_steps = scene.sub_steps
        self.settled = False
        self._option = self.model.opt
        self._sensors_on = self._option.disableflags
        self._two_stages = self._option.integrator == int(mujoco.mjtIntegrator.mjINT_EULER)
        self._quats = np.empty(self.model.nq)
        self._view(readings, index)
        self._plan_rollout()

    def _view(self, readings: Readings, index: int) -> None:
        """Keep the arrays that every step looks at: asking for one costs more than copying it."""
        data = self.data
        self._qpos, self._ctrl = data.qpos, data.ctrl
        self._copies = (
            (readings.xpos[index], data.xpos),
            (readings.agent_mat[index], data.xmat[self.scene.agent_body]),
            (readings.sensors[index], data.sensordata),
            (readings.qvel[index], data.qvel),
        )
        self._touched = readings.touched[index]
        self._jacobian = readings.agent_jacobian[index]

    def _plan_rollout(self) -> None:
        """Room for what `rollout` takes: start, controls, and poses of mocap bodies."""
        model, data, n = self.model, self.data, self.sub_steps
        self._start = np.empty((1, model.nq + model.nv + model.na))
        parts = np.split(self._start[0], [model.nq, model.nq + model.nv])
        self._start_copies = tuple(zip(parts, (data.qpos, data.qvel, data.act), strict=True))
        self._ctrls = np.empty((1, n, model.nu))
        self._mocap = np.empty((1, n, 7 * model.nmocap))
        positions, self._mocap_quats = np.split(self._mocap[0], [3 * model.nmocap], axis=1)
        self._mocap_positions = positions.reshape(n, model.nmocap, 3)
        self._warmstart = data.qacc_warmstart[None]

    def step(self, ctrl: Array, targets: Array | None) -> None:
        """One environment step: the sub-steps, three forwards, and the readings.

        Args:
            ctrl: [nu] controls, clipped.
            targets: [sub_steps, 3] where mocap bodies go before each sub-step, if there are any.
        """
        self._advance(ctrl, targets)
        self.forward()
        if self.scene.needs_agent_velocity:
            body = self.scene.agent_body
            mujoco.mj_jacBody(self.model, self.data, self._jacobian, None, body)
        self.forward(2)
        self.read()

    def _advance(self, ctrl: Array, targets: Array | None) -> None:
        model, data = self.model, self.data
        self._option.disableflags = self._sensors_on | NO_SENSORS
        self._ctrl[:] = ctrl
        if targets is not None:
            self._roll_out(ctrl, targets)
        elif self.settled and self._two_stages:
            # Positions and velocities of the first sub-step are those of the last forward.
            mujoco.mj_step2(model, data)
            mujoco.mj_step(model, data, nstep=self.sub_steps - 1)
        else:
            mujoco.mj_step(model, data, nstep=self.sub_steps)
        self._option.disableflags = self._sensors_on
        self.settled = False

    def _roll_out(self, ctrl: Array, targets: Array) -> None:
        """The sub-steps with mocap bodies moved before each."""
        for part, values in self._start_copies:
            part[:] = values
        self._ctrls[:] = ctrl
        self._mocap_positions[:] = targets[:, None]
        self._mocap_quats[:] = self.data.mocap_quat.reshape(-1)
        rollout(
            self.model,
            self.data,
            self._start,
            self._ctrls,
            skip_checks=True,
            nstate=1,
            nstep=self.sub_steps,
            initial_time=np.array([[self.data.time]]),
            initial_warmstart=self._warmstart,
            mocap=self._mocap,
        )

    def restart(self, forwards: int) -> None:
        """Begin with data just reset, with as many forwards."""
        self.settled = False
        self.forward(forwards)

    def forward(self, times: int = 1) -> None:
        """What `times` calls of `mj_forward`, one after the other, give."""
        for left in reversed(range(times)):
            if self.settled:
                skip_sensors = int(left > 0)
                mujoco.mj_forwardSkip(self.model, self.data, VELOCITY_STAGE, skip_sensors)
            else:
                mujoco.mj_forward(self.model, self.data)
                self.settled = self._is_settled()

    def _is_settled(self) -> bool:
        """Whether another `mj_forward` would leave `qpos` as it is."""
        quats, qpos = self._quats, self._qpos
        quats[:] = qpos
        mujoco.mj_normalizeQuat(self.model, quats)
        return bool(quats.tobytes() == qpos.tobytes())

    def read(self) -> None:
        """Copy this environment's results into its row of the readings."""
        for row, values in self._copies:
            row[:] = values

    def touch(self) -> None:
        """Mark in the readings what the contacts say that the agent touches."""
        contact, columns = self.data.contact, self.scene.touch_column
        for pair in zip(contact.geom1.tolist(), contact.geom2.tolist(), strict=True):
            if pair in columns:
                self._touched[columns[pair]] = True

    def state(self) -> dict[str, Any]:
        """What the next step starts from."""
        arrays = {name: getattr(self.data, name).copy() for name in STATE}
        poses = {name: getattr(self.model, name).copy() for name in POSES}
        return {**arrays, **poses, "time": float(self.data.time)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        for name in POSES:
            getattr(self.model, name)[:] = state[name]
        finish_model(self.model, self.data)
        self._put(state)
        mujoco.mj_forward(self.model, self.data)
        self.read()
        # Looking moved the solver's starting point and the last bit of quaternions.
        self._put(state)
        self.settled = False

    def _put(self, state: dict[str, Any]) -> None:
        for name in STATE:
            getattr(self.data, name)[:] = state[name]
        self.data.time = state["time"]
