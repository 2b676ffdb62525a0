"""Asking how far rooms have come: one question to the projection and one to the stream, for many rooms at once.

Invariant: what a room learns by ``look`` was asked after it called. Rooms that ask while a question is under way share
the next one, so thousands of viewers that come at once cost a few questions.

The stream gives no position without the whole event. So a room is asked about from where the stream stood when it last
was: whatever has not changed since costs nothing, however large it is.

NATS hands a message on before it has stored it. So one that is published in the moment in which a room is subscribed to
may be neither live nor in the stream yet; a second look, a moment later, finds it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from services.query.feed.projected import ProjectedFeed, ProjectionAwayError
from services.query.feed.stored import MOST_TAILS, StoredFeed
from shared.contracts.ids import RoomKey
from shared.messaging.broker import BrokerUnavailableError
from shared.tasks import begin_shared
from shared.telemetry import Logger

_ROOMS_AT_ONCE: Final = min(500, MOST_TAILS)
_STORED_SECONDS: Final = 0.05
"""In which the stream has stored what it has handed on: a few milliseconds as a rule."""

_log: Logger = structlog.get_logger("feed")


class Watched(Protocol):
    """What is asked about, and what takes the answers."""

    key: RoomKey
    subject: str
    first_seq: int | None
    projection_answered: bool
    stream_answered: bool
    looked_to: int
    """How far the stream had come when it was last asked about the room; 0: ask about all of it."""

    def learn(self, stream_seq: int) -> None: ...


class Looker:
    def __init__(self, projected: ProjectedFeed, stored: StoredFeed) -> None:
        self._projected = projected
        self._stored = stored
        self._asked: dict[Watched, asyncio.Future[bool]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._new: list[Watched] = []
        self._looking_again: asyncio.Task[None] | None = None

    async def look(self, room: Watched) -> bool:
        """Both sources are asked about the room from now on; returns when both have answered, True, or failed to."""
        future = self._asked.get(room)
        if future is None:
            future = self._asked[room] = asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = begin_shared(self._ask(), "look")
        return await asyncio.shield(future)

    async def look_closely(self, room: Watched) -> bool:
        """The same, but True only where the room has come no further than that: not of a stream that is yet to be
        filled."""
        filled = await self._stored.filled()
        have_answered = await self.look(room)
        return have_answered and filled is not None and await self._stored.is_still_filled(filled)

    def look_again(self, room: Watched) -> None:
        """Has the stream asked again about a room that was subscribed to a moment ago; those that are new share it."""
        self._new.append(room)
        if self._looking_again is None or self._looking_again.done():
            self._looking_again = begin_shared(self._look_again(), "look_again")

    async def check(self, rooms: Sequence[Watched]) -> None:
        """Compares rooms with the stream, and with the projection where one of the two has not answered of late."""
        for start in range(0, len(rooms), _ROOMS_AT_ONCE):
            some = rooms[start : start + _ROOMS_AT_ONCE]
            if not await self._ask_stream(some):
                await self._ask_projection(some)
            elif unknown := [room for room in some if not room.projection_answered]:
                await self._ask_projection(unknown)

    async def _look_again(self) -> None:
        while self._new:
            rooms, self._new = self._new, []
            await asyncio.sleep(_STORED_SECONDS)
            try:
                await self.check(rooms)
            except Exception:
                _log.exception("look_failed")

    async def _ask(self) -> None:
        while self._asked:
            batch = {room: self._asked.pop(room) for room in list(self._asked)[:_ROOMS_AT_ONCE]}
            rooms = list(batch)
            have_answered = False
            try:
                have_answered = all(await asyncio.gather(self._ask_projection(rooms), self._ask_stream(rooms)))
            except Exception:
                _log.exception("look_failed")
            finally:
                for future in batch.values():
                    future.set_result(have_answered)

    async def _ask_stream(self, rooms: Sequence[Watched]) -> bool:
        known = [room for room in rooms if room.looked_to]
        unknown = [room for room in rooms if not room.looked_to]
        # Apart: one of the unknown would have the known asked about from the beginning. Those first: it is soon done.
        answered = [await self._ask_tails(some) for some in (known, unknown) if some]
        return all(answered)

    async def _ask_tails(self, rooms: Sequence[Watched]) -> bool:
        behind = min(room.looked_to for room in rooms)
        try:
            tails = await self._stored.tails([room.subject for room in rooms], behind)
        except BrokerUnavailableError as error:
            _log.debug("tails_unknown", error=str(error))
            for room in rooms:
                room.stream_answered = False
            return False
        for room in rooms:
            room.stream_answered = True
            room.looked_to = tails.up_to
            if (tail := tails.of.get(room.subject)) is not None:
                room.learn(tail.stream_seq)
        return True

    async def _ask_projection(self, rooms: Sequence[Watched]) -> bool:
        try:
            heads = await self._projected.heads([room.key for room in rooms])
        except ProjectionAwayError as error:
            _log.debug("heads_unknown", error=str(error))
            for room in rooms:
                room.projection_answered = False
            return False
        for room in rooms:
            head = heads[room.key]
            room.projection_answered = True
            room.first_seq = head.first_seq
            room.learn(head.head_seq)
        return True
