"""History: what a room's viewers have not seen yet, from the projection and, beyond it, from the stream.

Invariant: a page begins right after the cursor it was asked for and has no hole. What cannot be had now is None, and is
asked for again; only what neither the projection nor the stream holds any more, by their own word, is ``Trimmed``.

Many clients that come back at once stand at the same few cursors: a page is read once for all who ask for it, pages end
at common boundaries, and they are kept for a while. The number of reads under way is bounded, and clients take turns.
"""

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple

from services.query.feed.entry import Entry, contiguous
from services.query.feed.frame import chunk, event_frame
from services.query.feed.projected import ProjectedFeed, ProjectedPage, ProjectionAwayError
from services.query.feed.stored import Absent, StoredFeed
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import room_subject
from shared.messaging.broker import BrokerUnavailableError
from shared.tasks import begin_shared
from shared.turns import Turns

PAGE_EVENTS: Final = 128
PAGE_BYTES: Final = 128 * 1024
_CACHE_BYTES: Final = 16 * 1024 * 1024
_READS_AT_ONCE: Final = 4
_PAGES_AT_ONCE: Final = 16
"""Looked up or sent in one turn of the loop: about a millisecond of it."""


class Page(NamedTuple):
    """``chunk`` holds the frames, ``events`` is how many, ``last`` the ``stream_seq`` of the last one. ``hint`` is for
    the next page: where the stream holds the last one, if the page came from there, else 0."""

    chunk: bytes
    events: int
    last: int
    hint: int


class Trimmed(NamedTuple):
    """The events after the cursor are gone for good; ``first_seq`` is the first that is still there or to come."""

    first_seq: int


class Replay:
    def __init__(self, projected: ProjectedFeed, stored: StoredFeed) -> None:
        self._projected = projected
        self._stored = stored
        self.turns = Turns(_PAGES_AT_ONCE)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._flights: dict[tuple[RoomKey, int], asyncio.Task[Page | Trimmed | None]] = {}
        self._pages: OrderedDict[tuple[RoomKey, int], Page] = OrderedDict()
        self._pages_size = 0

    def kept(self, key: RoomKey, after: int) -> Page | None:
        """The page after the cursor, if somebody has asked for it of late."""
        at = (key, after)
        if (page := self._pages.get(at)) is not None:
            self._pages.move_to_end(at)
        return page

    async def page(self, key: RoomKey, after: int, hint: int) -> Page | Trimmed | None:
        """The page after the cursor. ``hint`` is that of the page before, 0 if there is none."""
        if (page := self.kept(key, after)) is not None:
            return page
        at = (key, after)
        flight = self._flights.get(at)
        if flight is None:
            flight = begin_shared(self._read_page(key, after, hint), "history")
            self._flights[at] = flight
            flight.add_done_callback(lambda _: self._flights.pop(at, None))
        # Shared: one asker that goes away must not take the page from the others.
        return await asyncio.shield(flight)

    async def read(self, key: RoomKey, after: int, most_events: int, hint: int = 0) -> list[Entry] | Trimmed | None:
        """Up to ``most_events`` events right after the position."""
        async with self._reads:
            found = await self._look_for(key, after, most_events, hint)
        return await self._judge_absence(key, after, found) if isinstance(found, ProjectedPage) else found

    async def _look_for(
        self, key: RoomKey, after: int, most_events: int, hint: int
    ) -> list[Entry] | ProjectedPage | None:
        """What the projection holds instead, where the stream does not hold what follows."""
        subject = room_subject(*key)
        # A hint comes from a reader that is beyond the projection already: spare both the question.
        if hint and (taken := await self._following(subject, after, hint, most_events)):
            return taken
        try:
            held = await self._projected.page(key, after, most_events, PAGE_BYTES)
        except ProjectionAwayError:
            held = None
        if held is not None and (taken := contiguous(held.entries, after)):
            return taken
        if held is not None and held.position:
            taken = await self._following(subject, after, held.position, most_events)
            if taken:
                return taken
        found = await self._search(subject, after, most_events)
        return held if isinstance(found, Absent) else found

    async def _search(self, subject: str, after: int, most_events: int) -> list[Entry] | Absent | None:
        try:
            return await self._stored.search(subject, after, most_events)
        except BrokerUnavailableError:
            return None

    async def _following(self, subject: str, after: int, position: int, most_events: int) -> list[Entry]:
        try:
            return await self._stored.following(subject, after, position + 1, most_events)
        except BrokerUnavailableError:
            return []

    async def _judge_absence(self, key: RoomKey, after: int, held: ProjectedPage) -> list[Entry] | Trimmed | None:
        """The stream does not hold what follows: trimmed if the projection has been past it, else not there yet."""
        if held.entries:
            # One snapshot holds later events and not this one.
            first_seq = held.entries[0].stream_seq
        else:
            async with self._reads:
                try:
                    head = (await self._projected.heads([key]))[key]
                    if head.head_seq <= after:
                        return None
                    # It may have been applied between the two looks.
                    held = await self._projected.page(key, after, PAGE_EVENTS, PAGE_BYTES)
                except ProjectionAwayError:
                    return None
            if taken := contiguous(held.entries, after):
                return taken
            first_seq = held.entries[0].stream_seq if held.entries else head.head_seq + 1
        # The relay is waited for, which takes seconds: no other read waits with it.
        if (filled := await self._stored.filled()) is None:
            return None
        async with self._reads:
            absent = await self._search(room_subject(*key), after, PAGE_EVENTS)
        if not isinstance(absent, Absent) or not await self._stored.is_still_filled(filled):
            return None
        if absent.first_seq is not None and absent.first_seq > after:
            first_seq = min(first_seq, absent.first_seq)
        return Trimmed(first_seq)

    async def _read_page(self, key: RoomKey, after: int, hint: int) -> Page | Trimmed | None:
        most_events = PAGE_EVENTS - after % PAGE_EVENTS
        entries = await self.read(key, after, most_events, hint)
        if entries is None or isinstance(entries, Trimmed):
            return entries
        frames: list[bytes] = []
        size = 0
        for entry in entries:
            frames.append(event_frame(entry.stream_seq, entry.envelope))
            size += len(frames[-1])
            if size >= PAGE_BYTES:
                break
        last = entries[len(frames) - 1]
        page = Page(chunk(*frames), len(frames), last.stream_seq, last.position)
        self._keep((key, after), page)
        return page

    def _keep(self, at: tuple[RoomKey, int], page: Page) -> None:
        if at in self._pages:
            return
        self._pages[at] = page
        self._pages_size += len(page.chunk)
        while self._pages_size > _CACHE_BYTES:
            _, dropped = self._pages.popitem(last=False)
            self._pages_size -= len(dropped.chunk)
