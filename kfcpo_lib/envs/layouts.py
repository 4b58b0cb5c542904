"""Where things stand at the start of an episode: rejection sampling, as stock does it but fast.

Safety Gymnasium places one object after the other: a uniform draw in the object's box, again until
it keeps its distance from all earlier ones, at most `TRIES` times; then the whole layout starts
anew. Crowded tasks need thousands of draws. Here the same numbers are drawn from the same
generator, but where most tries fail, all are compared at a time. What is placed where, and how far
apart, is read from the stock task's own random generator.
"""

from collections.abc import Iterable
from itertools import takewhile
from math import inf, nextafter, pi, sqrt
from typing import Any, NamedTuple

import numpy as np

TRIES = 100
"""Tries per object before a layout is given up, as in the stock `sample_layout`."""

LAYOUTS = 10_000
"""Layouts (and goals) tried before giving up, as in the stock `build_layout`."""

ROUNDING = 1e-9
"""More than rounding can change in a power of a point, square metres."""

Point = tuple[float, float]


class LayoutError(RuntimeError):
    """No place was found for an object."""


class Slot(NamedTuple):
    """One object to place: its box, and how far it keeps from each object before it."""

    name: str
    low: Point
    """Lower corner, metres."""
    span: Point
    """Width and height, metres."""
    apart: list[float]
    """Least squared distance to each earlier slot, the last one first, square metres."""


class Draws:
    """Pairs of uniform numbers of a RandomState, taken in blocks: one pair is one try.

    `finish` leaves the generator where drawing the used ones singly would have left it.

    Args:
        generator: source of the numbers.
        crowd: what `_far_tries` will be asked about; may be empty.
    """

    def __init__(self, generator: np.random.RandomState, crowd: list[Slot]) -> None:
        self._generator, self._crowd = generator, crowd
        self._start = generator.get_state(legacy=False)
        self._pairs = np.empty((0, 2))
        self._spent = 0
        self.used = 0
        """Of the pairs in `u` and `v`, how many were used."""

    def reserve(self, count: int) -> None:
        """Have at least `count` unused pairs."""
        if len(self._pairs) - self.used >= count:
            return
        more = self._generator.random_sample((4 * count if self._crowd else count, 2))
        self._pairs = np.concatenate([self._pairs[self.used :], more])
        self._spent, self.used = self._spent + self.used, 0
        # Single numbers come out of a memoryview faster than out of an array, and as floats.
        self.u, self.v = self._pairs[:, 0].data, self._pairs[:, 1].data
        if self._crowd:
            _, (low_x, low_y), (span_x, span_y), _ = self._crowd[0]
            x, y = low_x + span_x * self._pairs[:, 0], low_y + span_y * self._pairs[:, 1]
            self.in_crowd = np.stack([-2 * x, -2 * y, x * x + y * y, np.ones(len(x))])

    def finish(self) -> None:
        """Put the generator right after the last used pair."""
        self._generator.set_state(self._start)
        self._generator.random_sample((self._spent + self.used, 2))


class LayoutSampler:
    """Draws layouts and new goals for one task.

    Args:
        task: a stock task whose placements have been built.
    """

    def __init__(self, task: Any) -> None:
        source = task.random_generator
        slots = _slots(source)
        self._names = [slot.name for slot in slots]
        singles = len(slots) - _size_of_crowd(slots)
        self._singles, self._crowd = slots[:singles], slots[singles:]
        self._goal_box = _goal_slot(source)

    def sample(self, generator: np.random.RandomState) -> dict[str, Point]:
        """A layout: the position of each object, in the order of placement, metres."""
        draws = Draws(generator, self._crowd)
        for _ in range(LAYOUTS):
            draws.reserve(TRIES * len(self._names))
            placed = self._try_layout(draws)
            if len(placed) == len(self._names):
                draws.finish()
                return dict(zip(self._names, reversed(placed), strict=True))
        raise LayoutError("found no layout of the objects")

    def _try_layout(self, draws: Draws) -> list[Point]:
        """The objects that found a place, the last one first."""
        placed: list[Point] = []
        tries = range(draws.used, draws.used + TRIES * len(self._singles))
        if _place(self._singles, tries, placed, draws) and self._crowd:
            _place(self._crowd, _far_tries(self._crowd, placed, draws), placed, draws)
        return placed

    def sample_goal(self, generator: np.random.RandomState, layout: dict[str, Point]) -> Point:
        """A new place for the goal, at its distance from everything in `layout` but itself."""
        if self._goal_box is None:
            raise LayoutError("the task places no goal")
        (low, span), reach = self._goal_box
        others = [(xy, reach[name]) for name, xy in layout.items() if name != "goal"]
        for _ in range(LAYOUTS):
            x = low[0] + span[0] * generator.random_sample()
            y = low[1] + span[1] * generator.random_sample()
            if all(sqrt((x - a) * (x - a) + (y - b) * (y - b)) >= r for (a, b), r in others):
                return x, y
        raise LayoutError("found no place for the goal")


def _slots(source: Any) -> list[Slot]:
    """The objects in the order of placement."""
    slots: list[Slot] = []
    for name, (placements, keepout) in source.placements.items():
        reach = [
            source.placements[other.name][1] + source.placements_margin + keepout
            for other in reversed(slots)
        ]
        low, span = _box(source, placements, keepout)
        slots.append(Slot(name, low, span, [_least_square(r) for r in reach]))
    return slots


def _size_of_crowd(slots: list[Slot]) -> int:
    """How many slots at the end are alike and in a box that the others could cover twice; or 0."""
    last = slots[-1]
    alike = len(list(takewhile(lambda slot: slot.low == last.low, reversed(slots))))
    kept_free = pi * sum(slots[-alike].apart)
    return alike if alike > 1 and kept_free >= 2 * last.span[0] * last.span[1] else 0


def _least_square(reach: float) -> float:
    """The least number whose root is at least `reach`: tells near from far without a root."""
    square = reach * reach
    while square > 0.0 and sqrt(square) >= reach:
        square = nextafter(square, 0.0)
    while sqrt(square) < reach:
        square = nextafter(square, inf)
    return square


def _box(source: Any, placements: Any, keepout: float) -> tuple[Point, Point]:
    """Lower corner and span of the one box that an object is drawn in, shrunk by its keepout."""
    boxes = [source.placements_extents] if placements is None else placements
    if len(boxes) != 1:
        raise NotImplementedError("objects with several boxes")
    xmin, ymin, xmax, ymax = source.constrain_placement(boxes[0], keepout)
    return (xmin, ymin), (xmax - xmin, ymax - ymin)


def _goal_slot(source: Any) -> tuple[tuple[Point, Point], dict[str, float]] | None:
    if "goal" not in source.placements:
        return None
    placements, keepout = source.placements["goal"]
    reach = {
        name: other + source.placements_margin + keepout
        for name, (_, other) in source.placements.items()
    }
    return _box(source, placements, keepout), reach


def _place(slots: list[Slot], tries: Iterable[int], placed: list[Point], draws: Draws) -> bool:
    """Put a position for each slot before `placed`; False if one of them finds none.

    Args:
        slots: to be placed one after the other.
        tries: which pairs of numbers to look at; those in between would be too near.
        placed: positions of the earlier slots, the last one first.
        draws: where the numbers come from.
    """
    u, v, after = draws.u, draws.v, draws.used
    waiting = iter(slots)
    _, (low_x, low_y), (span_x, span_y), apart = next(waiting)
    for at in tries:
        if at >= after + TRIES:
            break
        x = low_x + span_x * u[at]
        y = low_y + span_y * v[at]
        for (a, b), least in zip(placed, apart):  # noqa: B905 (as long; `strict` takes its time)
            dx = x - a
            dy = y - b
            if dx * dx + dy * dy < least:
                break
        else:
            placed.insert(0, (x, y))
            after = at + 1
            slot = next(waiting, None)
            if slot is None:
                draws.used = after
                return True
            _, (low_x, low_y), (span_x, span_y), apart = slot
    draws.used = after + TRIES
    return False


def _far_tries(crowd: list[Slot], placed: list[Point], draws: Draws) -> list[int]:
    """Which tries for the crowd are far from all of `placed`; a few may be just too near.

    The power of a point with respect to a circle, its squared distance to the centre less the
    squared radius, is negative inside. One matrix product gives it for all tries and all circles.
    """
    circles: list[float] = []
    for (a, b), square in zip(placed, crowd[0].apart, strict=True):
        circles += (a, b, 1.0, a * a + b * b - square)
    points = draws.in_crowd[:, draws.used : draws.used + TRIES * len(crowd)]
    lowest_power = np.minimum.reduce(np.array(circles).reshape(-1, 4) @ points)
    far: list[int] = ((lowest_power > -ROUNDING).nonzero()[0] + draws.used).tolist()
    return far
