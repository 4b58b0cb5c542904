"""Where things stand at the start of an episode: rejection sampling, as stock does it but fast.

Safety Gymnasium places one object after the other: a uniform draw in the object's box, again until
it keeps its distance from all earlier ones, at most `TRIES` times; then the whole layout starts
anew. Crowded tasks need thousands of draws. Here the same numbers are drawn from the same
generator, but many tries are compared at a time. What is placed where, and how far apart, is read
from the stock task's own random generator.
"""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np

TRIES = 100
"""Tries per object before a layout is given up, as in the stock `sample_layout`."""

LAYOUTS = 10_000
"""Layouts (and goals) tried before giving up, as in the stock `build_layout`."""

Point = tuple[float, float]


class LayoutError(RuntimeError):
    """No place was found for an object."""


class Slot(NamedTuple):
    """One object to place: its box, and the distance it keeps from each object before it."""

    name: str
    low: Point
    """Lower corner, metres."""
    span: Point
    """Width and height, metres."""
    reach: list[float]
    """Least distance to each earlier slot, metres."""


class Draws:
    """Uniform numbers of a RandomState, taken in blocks.

    `finish` leaves the generator where drawing the used ones singly would have left it.
    """

    def __init__(self, generator: np.random.RandomState, block: int = 512) -> None:
        self._generator = generator
        self._start = generator.get_state(legacy=False)
        self._spent = 0
        self.array = generator.random_sample(block)
        self.list: list[float] = self.array.tolist()
        self.used = 0
        """Of the numbers in `array` and `list`, how many were used."""

    def reserve(self, count: int) -> None:
        """Have at least `count` unused numbers in `array[used:]` and `list[used:]`."""
        if len(self.list) - self.used < count:
            more = self._generator.random_sample(8 * count)
            self.array = np.concatenate([self.array[self.used :], more])
            self.list = self.array.tolist()
            self._spent, self.used = self._spent + self.used, 0

    def finish(self) -> None:
        """Put the generator right after the last used number."""
        self._generator.set_state(self._start)
        self._generator.random_sample(self._spent + self.used)


class LayoutSampler:
    """Draws layouts and new goals for one task.

    Args:
        task: a stock task whose placements have been built.
    """

    def __init__(self, task: Any) -> None:
        source = task.random_generator
        self._slots: list[Slot] = []
        for name, (placements, keepout) in source.placements.items():
            low, span = _box(source, placements, keepout)
            reach = [
                source.placements[other.name][1] + source.placements_margin + keepout
                for other in self._slots
            ]
            self._slots.append(Slot(name, low, span, reach))
        self._goal_box = _goal_slot(source)

    def sample(self, generator: np.random.RandomState) -> dict[str, Point]:
        """A layout: the position of each object, in the order of placement, metres."""
        draws = Draws(generator)
        for _ in range(LAYOUTS):
            placed: list[Point] = []
            if all(_place(slot, placed, draws) for slot in self._slots):
                draws.finish()
                return {slot.name: xy for slot, xy in zip(self._slots, placed, strict=True)}
        raise LayoutError("found no layout of the objects")

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


def _place(slot: Slot, placed: list[Point], draws: Draws, singly: int = 10) -> bool:
    """Append a position for `slot` to `placed`; False if none of the tries keeps its distance."""
    draws.reserve(2 * TRIES)
    (low_x, low_y), (span_x, span_y) = slot.low, slot.span
    numbers = iter(draws.list[draws.used : draws.used + 2 * singly])
    # Most objects find their place within a few tries; those are fastest in plain Python.
    for tried, (u, v) in enumerate(zip(numbers, numbers, strict=True), start=1):
        x, y = low_x + span_x * u, low_y + span_y * v
        for (a, b), least in zip(placed, slot.reach, strict=True):
            if sqrt((x - a) * (x - a) + (y - b) * (y - b)) < least:
                break
        else:
            draws.used += 2 * tried
            placed.append((x, y))
            return True
    draws.used += 2 * singly
    return _place_in_block(slot, placed, draws, TRIES - singly)


def _place_in_block(slot: Slot, placed: list[Point], draws: Draws, tries: int) -> bool:
    """The same for `tries` candidates at once."""
    block = draws.array[draws.used : draws.used + 2 * tries]
    x = slot.low[0] + slot.span[0] * block[0::2, None]
    y = slot.low[1] + slot.span[1] * block[1::2, None]
    others = np.array(placed)
    dx, dy = x - others[:, 0], y - others[:, 1]
    near = (np.sqrt(dx * dx + dy * dy) < slot.reach).any(axis=1)
    first = int(near.argmin())
    if near[first]:
        draws.used += 2 * tries
        return False
    draws.used += 2 * (first + 1)
    placed.append((float(x[first, 0]), float(y[first, 0])))
    return True
