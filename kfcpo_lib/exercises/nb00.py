"""The check of notebook 00: reward and cost of one step, by hand."""

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from kfcpo_lib.exercises.checking import Wrong, close, exercise, solved

Array = NDArray[np.float64]
Step = Callable[[Array, Array, Array, Array, float, float], tuple[float, float]]
GOAL_EDGE = (
    "right deep inside and far away, wrong at the goal's edge: the bonus is paid where the "
    "straight distance to the goal is at most goal_size."
)
HAZARD_EDGE = (
    "right deep inside and far away, wrong at a hazard's edge: it costs where the straight "
    "distance to the hazard is below hazard_size."
)


def step_by_hand(
    before: Array, after: Array, goal: Array, hazards: Array, goal_size: float, hazard_size: float
) -> tuple[float, float]:
    """(reward, cost) of a step from `before` to `after`, all places in metres."""
    nearer = _apart(before, goal) - _apart(after, goal)
    reached = _apart(after, goal) <= goal_size
    inside = (_apart(hazards, after) < hazard_size).any()
    return float(nearer + reached), float(inside)


@exercise("one step by hand")
def check_step(student: Step) -> None:
    """student(before, after, goal, hazards, goal_size, hazard_size) -> (reward, cost)."""
    random, both = np.random.default_rng(), (False, True)
    for at_edge, at_goal, *hurt in product(both, repeat=4):
        case = _case(random, at_edge, at_goal, *hurt)
        answer = solved(student(*case))
        if not (isinstance(answer, tuple | list) and len(answer) == 2):
            raise Wrong("return two numbers: (reward, cost).")
        values, expected = [float(value) for value in answer], step_by_hand(*case)
        if not close(values[0], expected[0], 1e-6):
            raise Wrong(GOAL_EDGE if at_edge else _reward_mistake(values, expected, case))
        if not close(values[1], expected[1], 1e-6):
            raise Wrong(HAZARD_EDGE if at_edge else _cost_mistake(values[1], case))


def _reward_mistake(
    values: list[float],
    expected: tuple[float, float],
    case: tuple[Array, Array, Array, Array, float, float],
) -> str:
    before, after, goal, _, goal_size, _ = case
    near, far = _apart(after, goal), _apart(before, goal)
    bonus = float(near <= goal_size)
    if close(values, expected[::-1]):
        return "the two are swapped: the reward comes first."
    usual = {
        "wrong sign: coming nearer is a gain, distance before minus distance after.": (
            near - far + bonus
        ),
        "at the goal there is 1 more.": far - near,
        "the bonus is for being at the goal, not for every step.": far - near + 1.0,
        "the reward is the distance *gained*, not the distance that is left.": -near + bonus,
        "the reward is the gain towards the goal, not the length of the step.": (
            _apart(after, before) + bonus
        ),
        "take distances, not their squares.": far**2 - near**2 + bonus,
    }
    for sentence, mistake in usual.items():
        if close(values[0], mistake):
            return sentence
    return "the reward is distance before minus distance after, and 1 more at the goal."


def _cost_mistake(cost: float, case: tuple[Array, Array, Array, Array, float, float]) -> str:
    before, after, _, hazards, _, hazard_size = case
    inside = _apart(hazards, after) < hazard_size
    if cost == float((_apart(hazards, before) < hazard_size).any()):
        return "the cost looks at where the agent is after the step."
    if cost == inside.sum():
        return "the cost is 1 inside any hazards, also where two of them overlap."
    if cost == float(not inside.any()):
        return "the wrong way round: inside a hazard the cost is 1."
    return "the cost is 1 if the agent is nearer to some hazard than its radius, else 0."


def _case(
    random: np.random.Generator, at_edge: bool, at_goal: bool, hurt_before: bool, hurt_after: bool
) -> tuple[Array, Array, Array, Array, float, float]:
    """A step that ends at the goal or not, and begins and ends in hazards or not.

    At the edge, it ends just within or just outside the goal and the hazards: with a wrong radius
    it is judged wrongly. All ways are near a diagonal, where other distances differ most.
    """
    goal_size, hazard_size = random.uniform(0.3, 0.35), random.uniform(0.15, 0.2)
    goal = random.uniform(-1.0, 1.0, 2)
    way = np.pi * (0.25 + 0.5 * random.integers(4)) + random.uniform(-0.1, 0.1)
    ahead, side = np.array([[np.cos(way), np.sin(way)], [-np.sin(way), np.cos(way)]])
    within, outside = (0.9, 1.2) if at_edge else (0.2, 3.0)
    after = goal + ahead * goal_size * (within if at_goal else outside)
    before = after + (ahead + 0.7 * side) * random.uniform(0.5, 0.6)
    hazards = [goal + 5.0, goal - 5.0, after - outside * hazard_size * side]
    if hurt_before:
        hazards.append(before + 0.4 * hazard_size * side)
    if hurt_after:  # two that overlap
        hazards += [after + there * within * hazard_size for there in (ahead, -ahead)]
    return before, after, goal, np.array(hazards), goal_size, hazard_size


def _apart(places: Array, place: Array) -> Array:
    """[...] distances of places [..., 2] to one place."""
    return np.asarray(np.linalg.norm(places - place, axis=-1))
