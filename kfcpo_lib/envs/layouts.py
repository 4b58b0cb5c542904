"""Where things stand at the start of an episode: rejection sampling, as stock does it but fast.

Safety Gymnasium places one object after the other: a uniform draw in the object's box, again until
it keeps its distance from all earlier ones, at most `TRIES` times; then the whole layout starts
anew. Crowded tasks need thousands of draws. Here the same numbers are drawn from the same
generator, but many tries are compared at a time. What is placed where, and how far apart, is read
from the stock task's own random generator.
"""

from collections.abc import Iterator
from itertools import takewhile
from math import inf, nextafter, pi, sqrt
from typing import Any, NamedTuple

import numpy as np

from kfcpo_lib.envs.interface import Array

TRIES = 100
"""Tries per object before a layout is given up, as in the stock `sample_layout`."""

LAYOUTS = 10_000
"""Layouts (and goals) tried before giving up, as in the stock `build_layout`."""

TOGETHER = 160
"""Tries that are looked at in one go where most of them fail."""

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
    """Least squared distance to each earlier slot, square metres."""


class Crowd(NamedTuple):
    """Objects placed last, alike, and in a box that is mostly taken."""

    slots: list[Slot]
    corner: Array
    """[2] lower corner of the box, metres."""
    span: Array
    """[2] its width and height, metres."""
    apart: Array
    """[earlier slots, 1] least squared distance to each slot before the crowd, square metres."""
    mutual: float
    """Least squared distance to one another, square metres."""


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
        slots = _slots(source)
        self._crowd = _find_crowd(slots)
        self._names = [slot.name for slot in slots]
        self._singles = slots[: -len(self._crowd.slots)] if self._crowd else slots
        self._goal_box = _goal_slot(source)

    def sample(self, generator: np.random.RandomState) -> dict[str, Point]:
        """A layout: the position of each object, in the order of placement, metres."""
        draws = Draws(generator)
        for _ in range(LAYOUTS):
            placed: list[Point] = []
            if _place_singly(self._singles, placed, draws) and (
                self._crowd is None or _place_in_crowd(self._crowd, placed, draws)
            ):
                draws.finish()
                return dict(zip(self._names, placed, strict=True))
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


def _slots(source: Any) -> list[Slot]:
    """The objects in the order of placement."""
    slots: list[Slot] = []
    for name, (placements, keepout) in source.placements.items():
        reach = [
            source.placements[other.name][1] + source.placements_margin + keepout for other in slots
        ]
        low, span = _box(source, placements, keepout)
        slots.append(Slot(name, low, span, [_least_square(r) for r in reach]))
    return slots


def _find_crowd(slots: list[Slot]) -> Crowd | None:
    """The last objects that have the same box, if the discs to keep out of could cover it twice."""
    last = slots[-1]
    alike = len(list(takewhile(lambda slot: slot.low == last.low, reversed(slots))))
    before = last.apart[: len(slots) - alike]
    if alike == 1 or pi * sum(before) < 2 * last.span[0] * last.span[1]:
        return None
    box, apart = (np.array(last.low), np.array(last.span)), np.array(before)[:, None]
    return Crowd(slots[-alike:], *box, apart, mutual=last.apart[-1])


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


def _place_singly(slots: list[Slot], placed: list[Point], draws: Draws) -> bool:
    """Append a position for each slot to `placed`; False if the tries for one are used up."""
    for slot in slots:
        draws.reserve(2 * TRIES)
        at = _first_far(slot, placed, draws.list, draws.used)
        if at is None:
            draws.used += 2 * TRIES
            return False
        draws.used = at
    return True


def _first_far(slot: Slot, placed: list[Point], numbers: list[float], used: int) -> int | None:
    """Append the first try that is far from all that is placed.

    Returns:
        How many numbers are used then; None if no try was any good.
    """
    _, (low_x, low_y), (span_x, span_y), apart = slot
    for at in range(used, used + 2 * TRIES, 2):
        x, y = low_x + span_x * numbers[at], low_y + span_y * numbers[at + 1]
        for (a, b), least in zip(placed, apart, strict=True):
            if (x - a) * (x - a) + (y - b) * (y - b) < least:
                break
        else:
            placed.append((x, y))
            return at + 2
    return None


def _place_in_crowd(crowd: Crowd, placed: list[Point], draws: Draws) -> bool:
    """`_place_singly` for a crowd, many tries at a time."""
    mates: list[Point] = []
    tried = 0
    for number, x, y in _free_tries(crowd, placed, draws):
        if number > tried + TRIES:
            break
        if any((x - a) * (x - a) + (y - b) * (y - b) < crowd.mutual for a, b in mates):
            continue
        mates.append((x, y))
        tried = number
        if len(mates) == len(crowd.slots):
            draws.used += 2 * tried
            placed += mates
            return True
    draws.used += 2 * (tried + TRIES)
    return False


def _free_tries(
    crowd: Crowd, placed: list[Point], draws: Draws
) -> Iterator[tuple[int, float, float]]:
    """Number (from 1) and place of each try that is far from all of `placed`."""
    # As complex numbers, two coordinates are subtracted in one go.
    others = np.array(placed).view(np.complex128)
    for first in range(0, TRIES * len(crowd.slots), TOGETHER):
        draws.reserve(2 * (first + TOGETHER))
        start = draws.used + 2 * first
        pairs = draws.array[start : start + 2 * TOGETHER].reshape(-1, 2)
        places = crowd.corner + crowd.span * pairs
        squares = (places.view(np.complex128)[:, 0] - others).view(np.float64)
        squares *= squares
        is_far = squares[:, 0::2] + squares[:, 1::2] >= crowd.apart
        far = is_far.all(axis=0).nonzero()[0]
        for number, (x, y) in zip((far + first + 1).tolist(), places[far].tolist(), strict=True):
            yield number, x, y
