"""Rewards, goals and costs of the stock tasks, for all environments at once.

The formulas are those of the stock tasks' `calculate_reward`, `goal_achieved` and `cal_cost`,
rounded as they round; sizes, prices and thresholds are read from the stock objects.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.envs.interface import Array
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.simulator import Readings

Flags = NDArray[np.bool_]


def distance(apart: Array) -> Array:
    """[...] length of vectors [..., 2 or 3]."""
    squares = apart * apart
    total = squares[..., 0] + squares[..., 1]
    if apart.shape[-1] == 3:
        total += squares[..., 2]
    return np.asarray(np.sqrt(total))


class Rules:
    """What the families of tasks share: no goal, no memory.

    Args:
        scene: the task.
        readings: what physics says, filled by the simulators.
        places: [num_envs, columns, 3] positions of the objects, metres.
    """

    def __init__(self, scene: Scene, readings: Readings, places: Array) -> None:
        self.scene, self.readings, self.places = scene, readings, places
        self.memory: dict[str, NDArray[Any]] = {}
        """[num_envs] arrays that rewards and observations depend on besides the physics."""
        self.conf = scene.task.reward_conf

    def agent_pos(self) -> Array:
        """[num_envs, 3] metres."""
        return self.readings.xpos[:, self.scene.agent_body]

    def reward(self) -> tuple[Array, Flags]:
        """[num_envs] rewards of the step, and whether the goal was reached. Call once a step."""
        raise NotImplementedError

    def tick(self) -> None:
        """What happens in each step between the cost and the new goals."""

    def draw_goal(self, i: int, generator: np.random.RandomState) -> None:
        """Set a new goal in environment i; may raise `LayoutError`."""

    def remember(self, i: int) -> None:
        """Take distances of environment i, after a new goal, as those before the next step."""

    def begin(self, i: int) -> None:
        """Environment i starts an episode; comes after its first goal."""

    def hide(self, obs: Array, rows: NDArray[np.intp], spans: dict[str, slice]) -> None:
        """Blank what the task does not show in observations [rows, obs_dim]."""

    def clip(self, reward: Array) -> Array:
        """The last resort of the stock environment against exploding physics."""
        limit = self.conf.reward_clip
        return np.minimum(np.maximum(reward, -limit), limit) if limit else reward

    def cost(self) -> Array:
        """[num_envs] 1 where any constraint is violated, else 0."""
        hurt = np.zeros(len(self.places), dtype=bool)
        for group, violated in COSTS.items():
            if self.scene.costs(group):
                hurt |= violated(self, self.scene.obstacles[group])
        return hurt.astype(np.float64)


class GoalRules(Rules):
    """Go to the goal."""

    def __init__(self, scene: Scene, readings: Readings, places: Array) -> None:
        super().__init__(scene, readings, places)
        self.goal = scene.columns["goal"].start
        self.price = scene.obstacles["goal"]
        self.memory["last_dist_goal"] = np.zeros(len(places))

    def dist_goal(self) -> Array:
        """[num_envs] from the agent to the goal, metres."""
        return distance(self.places[:, self.goal, :2] - self.agent_pos()[:, :2])

    def achieved(self, dist_goal: Array) -> Flags:
        """[num_envs] whether the goal is reached."""
        return np.asarray(dist_goal <= self.price.size)

    def reward(self) -> tuple[Array, Flags]:
        """[num_envs] approach to the goal, and a bonus for reaching it."""
        dist_goal = self.dist_goal()
        reward = (self.memory["last_dist_goal"] - dist_goal) * self.price.reward_distance
        self.memory["last_dist_goal"][:] = dist_goal
        achieved = self.achieved(dist_goal)
        reward[achieved] += self.price.reward_goal
        return self.clip(reward), achieved

    def draw_goal(self, i: int, generator: np.random.RandomState) -> None:
        """Somewhere at its distance from everything, the agent included."""
        names, places = self.scene.names, self.places[i]
        layout = {name: (float(x), float(y)) for name, (x, y, _) in zip(names, places, strict=True)}
        layout["agent"] = tuple(self.agent_pos()[i, :2].tolist())
        self.places[i, self.goal, :2] = self.scene.sampler.sample_goal(generator, layout)

    def remember(self, i: int) -> None:
        """Measure the distance to the new goal."""
        apart = self.places[i, self.goal, :2] - self.agent_pos()[i, :2]
        self.memory["last_dist_goal"][i] = distance(apart)


class PushRules(GoalRules):
    """Push the box to the goal."""

    def __init__(self, scene: Scene, readings: Readings, places: Array) -> None:
        super().__init__(scene, readings, places)
        self.box = scene.columns["push_box"].start
        self.box_price = scene.obstacles["push_box"]
        self.memory = {name: np.zeros(len(places)) for name in ("last_dist_box", "last_box_goal")}

    def dist_box(self) -> Array:
        """[num_envs] from the agent to the box, in space, metres."""
        return distance(self.places[:, self.box] - self.agent_pos())

    def box_goal(self) -> Array:
        """[num_envs] from the box to the goal, in space, metres."""
        return distance(self.places[:, self.box] - self.places[:, self.goal])

    def reward(self) -> tuple[Array, Flags]:
        """[num_envs] approach to the box, approach of the box to the goal, and a bonus."""
        price, memory = self.box_price, self.memory
        dist_box, box_goal = self.dist_box(), self.box_goal()
        gate = memory["last_dist_box"] > price.null_dist * price.size
        reward = (memory["last_dist_box"] - dist_box) * price.reward_box_dist * gate
        reward += (memory["last_box_goal"] - box_goal) * price.reward_box_goal
        memory["last_dist_box"][:], memory["last_box_goal"][:] = dist_box, box_goal
        achieved = self.achieved(box_goal)
        reward[achieved] += self.price.reward_goal
        return self.clip(reward), achieved

    def remember(self, i: int) -> None:
        """Measure both distances."""
        self.memory["last_dist_box"][i] = self.dist_box()[i]
        self.memory["last_box_goal"][i] = self.box_goal()[i]


class ButtonRules(GoalRules):
    """Press the right button."""

    def __init__(self, scene: Scene, readings: Readings, places: Array) -> None:
        super().__init__(scene, readings, places)
        self.price = scene.obstacles["buttons"]
        self.buttons = scene.columns["buttons"]
        self.memory["goal_button"] = np.zeros(len(places), dtype=np.int64)
        self.memory["timer"] = np.zeros(len(places), dtype=np.int64)

    def achieved(self, dist_goal: Array) -> Flags:
        """[num_envs] whether the agent touches the goal button."""
        pressed = self.readings.touched[:, self.scene.touch_columns("buttons")]
        return np.asarray(pressed[np.arange(len(pressed)), self.memory["goal_button"]])

    def tick(self) -> None:
        """Clock the time for which the buttons rest after a press."""
        timer = self.memory["timer"]
        timer[:] = np.maximum(0, timer - 1)

    def draw_goal(self, i: int, generator: np.random.RandomState) -> None:
        """One of the buttons; the goal moves there."""
        button = int(generator.choice(self.price.num))
        self.memory["goal_button"][i] = button
        self.places[i, self.goal, :2] = self.places[i, self.buttons][button, :2]
        self.memory["timer"][i] = self.price.resampling_delay

    def begin(self, i: int) -> None:
        """Buttons rest only after a press, not at the start."""
        self.memory["timer"][i] = 0

    def hide(self, obs: Array, rows: NDArray[np.intp], spans: dict[str, slice]) -> None:
        """Resting buttons are not seen."""
        obs[self.memory["timer"][rows] != 0, spans["buttons"]] = 0.0


class CircleRules(Rules):
    """Run along the circle."""

    def reward(self) -> tuple[Array, Flags]:
        """[num_envs] speed along the circle, less when away from it."""
        x, y, _ = self.agent_pos().T
        velocity = np.matmul(self.readings.agent_jacobian, self.readings.qvel[:, :, None])[:, :, 0]
        u, v, _ = velocity.T
        # Stock squares single numbers, by `pow`, which now and then rounds otherwise than x · x.
        squares = [a**2 + b**2 for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        radius = np.sqrt(squares)
        circle = self.scene.obstacles["circle"].radius
        reward = ((-u * y + v * x) / radius) / (1 + np.abs(radius - circle))
        return self.clip(reward * self.scene.task.reward_factor), np.zeros(len(x), dtype=bool)


def _in_hazard(rules: Rules, hazards: Any) -> Flags:
    places = rules.places[:, rules.scene.columns["hazards"], :2]
    depth = hazards.size - distance(places - rules.agent_pos()[:, None, :2])
    return np.asarray((depth * hazards.cost > 0).any(axis=1))


def _on_wrong_button(rules: Rules, buttons: Any) -> Flags:
    pressed = rules.readings.touched[:, rules.scene.touch_columns("buttons")].copy()
    pressed[np.arange(len(pressed)), rules.memory["goal_button"]] = False
    awake = rules.memory["timer"] == 0
    return np.asarray(pressed.any(axis=1) & awake & (buttons.cost > 0))


def _touching(group: str, price: str) -> Any:
    def violated(rules: Rules, things: Any) -> Flags:
        touched = rules.readings.touched[:, rules.scene.touch_columns(group)]
        return np.asarray(touched.any(axis=1) & (getattr(things, price) > 0))

    return violated


def _vase_disturbed(rules: Rules, vases: Any) -> Flags:
    """Touched by the agent, or moving."""
    hurt = _touching("vases", "contact_cost")(rules, vases)
    speed = distance(rules.readings.qvel[:, rules.scene.vase_dofs])
    moving = (speed >= vases.velocity_threshold) & (speed * vases.velocity_cost > 0)
    return np.asarray(hurt | moving.any(axis=1))


def _out_of_bounds(rules: Rules, walls: Any) -> Flags:
    outside = np.abs(rules.agent_pos()[:, :2]) > walls.locate_factor
    return np.asarray(outside.any(axis=1) if walls.num == 4 else outside[:, 0])


COSTS = {
    "hazards": _in_hazard,
    "buttons": _on_wrong_button,
    "vases": _vase_disturbed,
    "gremlins": _touching("gremlins", "contact_cost"),
    "pillars": _touching("pillars", "cost"),
    "sigwalls": _out_of_bounds,
}
"""Which obstacles can cost something, and when."""

__all__ = ["ButtonRules", "CircleRules", "GoalRules", "PushRules", "Rules"]
