"""Safety Gymnasium's pseudo-lidar and its other observations, for all environments at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.simulator import Readings


def pseudo_lidar(ego: Array, start: NDArray[np.intp], conf: Any, into: Array) -> None:
    """Raise the closeness, 0 to 1, that lidars report to that of the nearest object in each bin.

    An object is felt in the bin of its direction and, in part, in the two beside it.

    Args:
        ego: [rows, objects, 2] position of each object seen from the agent, metres.
        start: [rows, objects] where in `into` the lidar begins that feels the object.
        conf: the task's `lidar_conf`.
        into: flat array with all lidars, zero at first.
    """
    # The same functions as stock, complex numbers included: others differ in the last bit.
    z = np.empty(ego.shape[:2], dtype=np.complex128)
    z.real, z.imag = ego[..., 0], ego[..., 1]
    distance = np.abs(z)
    angle = np.arctan2(z.imag, z.real) % (np.pi * 2)
    bin_size = (np.pi * 2) / conf.num_bins
    index = (angle / bin_size).astype(np.intp)
    if conf.max_dist is None:
        closeness = np.exp(-conf.exp_gain * distance)
    else:
        closeness = np.maximum(0, conf.max_dist - distance) / conf.max_dist
    share = (angle - bin_size * index) / bin_size
    felt = np.empty((3, *angle.shape))
    felt[0], felt[1], felt[2] = closeness, share * closeness, (1 - share) * closeness
    beside = np.arange(-2, conf.num_bins + 2) % conf.num_bins
    bins = beside[np.array([[[2]], [[3]], [[1]]]) + index]
    np.maximum.at(into, (start + bins).ravel(), felt.ravel())


def egocentric(points: Array, agent_pos: Array, agent_mat: Array) -> Array:
    """[rows, objects, 2] the points as seen from the agent, metres.

    Each point is one vector times one matrix, as in stock: one product of all points would round
    differently.

    Args:
        points: [rows, objects, 3], of which x and y count.
        agent_pos: [rows, 3].
        agent_mat: [rows, 9].
    """
    flat = points.copy()
    flat[..., 2] = 0.0
    apart = flat - agent_pos[:, None, :]
    ego = np.matmul(apart[:, :, None, :], agent_mat.reshape(-1, 1, 3, 3))
    return np.asarray(ego[:, :, 0, :2])


class Observer:
    """Puts observations together in the order of the stock task's observation space."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        spaces = scene.task.obs_info.obs_space_dict.spaces
        sizes = [int(np.prod(space.shape)) for space in spaces.values()]
        ends = np.cumsum(sizes)
        self.obs_dim = int(ends[-1])
        spans = {
            key: slice(int(end) - size, int(end))
            for key, end, size in zip(spaces, ends, sizes, strict=True)
        }
        self._plan_sensors(spans)
        self._plan_lidars(spans)

    def _plan_sensors(self, spans: dict[str, slice]) -> None:
        """For each sensor in the observation: copied, as sine and cosine, or as a matrix."""
        info, model = self._scene.task.agent.sensor_info, self._scene.model
        angles = self._scene.task.agent.sensor_conf.sensors_angle_components
        into: list[int] = []
        source: list[int] = []
        self._angles: list[tuple[slice, int]] = []
        self._quats: list[tuple[slice, slice]] = []
        for key, span in spans.items():
            if key.endswith("_lidar"):
                continue
            start, size = int(model.sensor(key).adr[0]), int(model.sensor(key).dim[0])
            if angles and key in info.hinge_pos_names:
                self._angles.append((span, start))
            elif angles and key in info.ballquat_names:
                self._quats.append((span, slice(start, start + size)))
            else:
                # A free joint's position enters without x and y.
                skip = 2 if key == info.freejoint_pos_name else 0
                into += range(span.start, span.stop)
                source += range(start + skip, start + size)
        self._into, self._source = np.array(into), np.array(source)

    def _plan_lidars(self, spans: dict[str, slice]) -> None:
        self.lidar_span = {
            key.removesuffix("_lidar"): span for key, span in spans.items() if "_lidar" in key
        }
        columns = {
            name: range(len(self._scene.names))[self._scene.columns[name]]
            for name in self.lidar_span
        }
        self._seen = np.concatenate([np.array(c, dtype=np.intp) for c in columns.values()])
        starts = [[self.lidar_span[name].start] * len(c) for name, c in columns.items()]
        self._start = np.concatenate(starts).astype(np.intp)

    def observe(self, readings: Readings, places: Array, rows: NDArray[np.intp]) -> Array:
        """[rows, obs_dim] observations of the environments `rows`.

        Args:
            readings: of all environments.
            places: [num_envs, columns, 3] positions of the objects, metres.
            rows: indices of environments.
        """
        obs = np.zeros((len(rows), self.obs_dim))
        sensors = readings.sensors[rows]
        obs[:, self._into] = sensors[:, self._source]
        for span, start in self._angles:
            theta = sensors[:, start]
            obs[:, span] = np.column_stack([np.sin(theta), np.cos(theta)])
        for span, source in self._quats:
            obs[:, span] = rotation_matrices(sensors[:, source])
        agent_pos = readings.xpos[rows, self._scene.agent_body]
        points = places[rows[:, None], self._seen]
        ego = egocentric(points, agent_pos, readings.agent_mat[rows])
        start = np.arange(len(rows))[:, None] * self.obs_dim + self._start
        pseudo_lidar(ego, start, self._scene.task.lidar_conf, into=obs.reshape(-1))
        return obs


def rotation_matrices(quats: Array) -> Array:
    """[rows, 9] rotation matrices of unit quaternions [rows, 4], rounded as MuJoCo rounds them."""
    w, x, y, z = quats.T
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    wx, wy, wz, xy, xz, yz = w * x, w * y, w * z, x * y, x * z, y * z
    return np.column_stack(
        [
            ww + xx - yy - zz, 2 * (xy - wz), 2 * (xz + wy),
            2 * (xy + wz), ww - xx + yy - zz, 2 * (yz - wx),
            2 * (xz - wy), 2 * (yz + wx), ww - xx - yy + zz,
        ]
    )  # fmt: skip
