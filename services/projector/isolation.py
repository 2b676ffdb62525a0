"""How a batch that cannot be applied is taken apart, so that what can be applied of it is. Pure.

Invariant: each part is smaller than what it was taken from, and a room's events are in order in them, and all there but
for the one that cannot be applied.
"""

from collections.abc import Sequence
from typing import NamedTuple

from services.projector.batch import Group
from services.projector.projection_store import PoisonError


class Unfit(NamedTuple):
    """A group of one event, and why that cannot be applied."""

    group: Group
    error: PoisonError


class Parts(NamedTuple):
    """What to try one after the other, and what is known to be of no use."""

    parts: list[list[Group]]
    unfit: list[Unfit]


class Tries:
    """How often parts of one batch may still be tried: the next one is to have its turn, however much is wrong here."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self) -> bool:
        """Whether there is another."""
        self._left -= 1
        return self._left >= 0


def take_apart(groups: Sequence[Group], error: PoisonError) -> Parts:
    """By the rooms that the error names, all of them at once; by halves where it names none."""
    named = [group for group in groups if group.room.key in error.of_rooms]
    if named and len(named) < len(groups):
        return Parts([[group for group in groups if group.room.key not in error.of_rooms], named], [])
    if named:
        unfit = [Unfit(group, error.of_rooms[group.room.key]) for group in named if len(group.events) == 1]
        return Parts(_by_events([group for group in named if len(group.events) > 1]), unfit)
    if len(groups) > 1:
        middle = len(groups) // 2
        return Parts([list(groups[:middle]), list(groups[middle:])], [])
    if len(groups[0].events) > 1:
        return Parts(_by_events(groups), [])
    return Parts([], [Unfit(groups[0], error)])


def _by_events(groups: Sequence[Group]) -> list[list[Group]]:
    """The first halves of all of them, and the others."""
    middles = [len(group.events) // 2 for group in groups]
    return [
        [Group(group.room, group.events[:middle]) for group, middle in zip(groups, middles, strict=True)],
        [Group(group.room, group.events[middle:]) for group, middle in zip(groups, middles, strict=True)],
    ]
