"""Safety Gymnasium's pseudo-lidar and its other observations, for all environments at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.simulator import Readings


def pseudo_lidar(ego: Array, group: NDArray[np.intp], num_groups: int, conf: Any) -> Array:
    """[rows, num_groups, bins] closeness of the nearest object in each direction, 0 to 1.

    An object is felt in the bin of its direction and, in part, in the two beside it.

    Args:
        ego: [rows, objects, 2] position of each object seen from the agent, metres.
        group: [objects] which lidar feels the object.
        num_groups: number of lidars.
        conf: the task's `lidar_conf`.
    """
    rows, bins = len(ego), conf.num_bins
    # The same functions as stock, complex numbers included: others differ in the last bit.
    z = ego[..., 0] + 1j * ego[..., 1]
    distance = np.abs(z)
    angle = np.angle(z) % (np.pi * 2)
    bin_size = (np.pi * 2) / bins
    index = (angle / bin_size).astype(np.intp)
    if conf.max_dist is None:
        closeness = np.exp(-conf.exp_gain * distance)
    else:
        closeness = np.maximum(0, conf.max_dist - distance) / conf.max_dist
    lidar = np.zeros(rows * num_groups * bins)
    start = (np.arange(rows)[:, None] * num_groups + group) * bins
    np.maximum.at(lidar, (start + index % bins).ravel(), closeness.ravel())
    if conf.alias:
        share = (angle - bin_size * index) / bin_size
        np.maximum.at(lidar, (start + (index + 1) % bins).ravel(), (share * closeness).ravel())
        before = ((1 - share) * closeness).ravel()
        np.maximum.at(lidar, (start + (index - 1) % bins).ravel(), before)
    return lidar.reshape(rows, num_groups, bins)


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
        groups = [key.removesuffix("_lidar") for key in spans if key.endswith("_lidar")]
        columns = [range(len(self._scene.names))[self._scene.columns[name]] for name in groups]
        self._seen = np.concatenate([np.array(c, dtype=np.intp) for c in columns])
        self._group = np.repeat(np.arange(len(groups)), [len(c) for c in columns])
        self._lidars = [spans[f"{name}_lidar"] for name in groups]
        self.lidar_span = dict(zip(groups, self._lidars, strict=True))

    def observe(self, readings: Readings, places: Array, rows: NDArray[np.intp]) -> Array:
        """[rows, obs_dim] observations of the environments `rows`.

        Args:
            readings: of all environments.
            places: [num_envs, columns, 3] positions of the objects, metres.
            rows: indices of environments.
        """
        obs = np.empty((len(rows), self.obs_dim))
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
        conf = self._scene.task.lidar_conf
        lidar = pseudo_lidar(ego, self._group, len(self._lidars), conf)
        for group, span in enumerate(self._lidars):
            obs[:, span] = lidar[:, group]
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
