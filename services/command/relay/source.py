"""Where the relay has its next events from.

Invariant: whatever there is to be had from one source, each of the others has its turn within two steps.
"""

from collections.abc import Container
from typing import Final, Literal

Source = Literal["wanted", "all rooms", "offered"]
"""Rooms by their keys, a page of all rooms with something to publish, and what this process has committed itself."""

_AFTER: Final[dict[Source, tuple[Source, Source, Source]]] = {
    "wanted": ("all rooms", "offered", "wanted"),
    "all rooms": ("offered", "wanted", "all rooms"),
    "offered": ("wanted", "all rooms", "offered"),
}


def source_after(last: Source, due: Container[Source]) -> Source:
    """The next source that is due; what is offered, which costs nothing to look at, if none is."""
    for source in _AFTER[last]:
        if source in due:
            return source
    return "offered"
