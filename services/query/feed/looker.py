"""Asking how far rooms have come: one question to the projection and one to the stream, for many rooms at once.

Invariant: what a room learns by ``look`` was asked after it called. Rooms that ask while a question is under way share
the next one, so thousands of viewers that come at once cost a few questions.

The stream gives no position without the whole event. So a room is asked about from where the stream stood when it last
was: whatever has not changed since costs nothing, however large it is.

The last message of a room may be no event. The last event is looked for then, for a bounded time and in one of such
rooms after another, as what is there instead may be large. Of rooms that were not come to the stream has not answered,
and the projection is asked until it has.

NATS hands a message on before it has stored it. So one that is published in the moment in which a room is subscribed to
may be neither live nor in the stream yet; a second look, a moment later, finds it.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from services.query.feed.projected import ProjectedFeed, ProjectionAwayError
from services.query.feed.stored import MOST_TAILS, StoredFeed
from shared.contracts.ids import RoomKey
from shared.messaging.broker import BrokerUnavailableError
from shared.tasks import begin_shared
from shared.telemetry import LineBudget, Logger

_ROOMS_AT_ONCE: Final = min(500, MOST_TAILS)
_STORED_SECONDS: Final = 0.05
"""In which the stream has stored what it has handed on: a few milliseconds as a rule."""

_SEEKING_SECONDS: Final = 1.0
"""After which the last event is looked for in no further room, of one question. Of most it takes milliseconds."""

_log: Logger = structlog.get_logger("feed")
_stream_lines, _projection_lines = LineBudget(1, 60), LineBudget(1, 60)


class Watched(Protocol):
    """What is asked about, and what takes the answers."""

    key: RoomKey
    subject: str
    first_seq: int | None
    projection_answered: bool
    stream_answered: bool
    looked_to: int
    """How far the stream had come when it was last asked about the room, or what of it was looked through; 0: ask about
    all of it."""
    is_hidden: bool
    """Whether the last event is yet to be found behind messages that are none."""

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
            unanswered = await self._ask_stream(some)
            if unknown := [room for room in some if room in unanswered or not room.projection_answered]:
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
            answered: set[Watched] = set()
            try:
                is_projected, unanswered = await asyncio.gather(self._ask_projection(rooms), self._ask_stream(rooms))
                answered = set(rooms) - unanswered if is_projected else answered
            except Exception:
                _log.exception("look_failed")
            finally:
                for room, future in batch.items():
                    future.set_result(room in answered)

    async def _ask_stream(self, rooms: Sequence[Watched]) -> set[Watched]:
        """Gives those of which it has not answered."""
        known = [room for room in rooms if room.looked_to and not room.is_hidden]
        unknown = [room for room in rooms if not room.looked_to or room.is_hidden]
        # Apart: one of the unknown would have the known asked about from the beginning. Those first: it is soon done.
        unanswered = [await self._ask_tails(some) for some in (known, unknown) if some]
        return set[Watched]().union(*unanswered)

    async def _ask_tails(self, rooms: Sequence[Watched]) -> set[Watched]:
        behind = min(room.looked_to for room in rooms)
        try:
            tails = await self._stored.tails([room.subject for room in rooms], behind)
        except BrokerUnavailableError as error:
            _say("tails_unknown", error, _stream_lines)
            for room in rooms:
                room.stream_answered = False
            return set(rooms)
        hidden: dict[Watched, int] = {}
        for room in rooms:
            if room.looked_to > tails.up_to:
                room.looked_to = 0  # of a stream that was another
            if (stray := tails.strays.get(room.subject, 0)) > room.looked_to:
                hidden[room] = stray
                continue
            _is_known(room, tails.up_to)
            if (tail := tails.of.get(room.subject)) is not None:
                room.learn(tail.stream_seq)
        return await self._seek_all(hidden, tails.up_to) if hidden else set()

    async def _seek_all(self, strays: Mapping[Watched, int], up_to: int) -> set[Watched]:
        """Looks for the last event of rooms of which the last message, a stray, is none. Gives those not known now."""
        # In any order, so that those in which there is much to look through do not keep the others from their turn.
        left = random.sample(list(strays), len(strays))
        unknown: set[Watched] = set()
        loop = asyncio.get_running_loop()
        until = loop.time() + _SEEKING_SECONDS
        while left:
            room = left.pop()
            if not await self._seek(room, strays[room], up_to):
                unknown.add(room)
            if loop.time() > until:
                break
        for room in left:
            _is_not_known(room)
        return unknown.union(left)

    async def _seek(self, room: Watched, stray: int, up_to: int) -> bool:
        """The same of one room; whether it is known now."""
        try:
            last, looked_to = await self._stored.last_event(room.subject, stray, room.looked_to)
        except BrokerUnavailableError as error:
            _say("tail_unknown", error, _stream_lines)
            _is_not_known(room)
            return False
        if is_known := looked_to >= stray:
            _is_known(room, up_to)
        else:
            _is_not_known(room)
            room.looked_to = looked_to  # and on from there the next time
        room.learn(last.stream_seq if last is not None else 0)
        return is_known

    async def _ask_projection(self, rooms: Sequence[Watched]) -> bool:
        try:
            heads = await self._projected.heads([room.key for room in rooms])
        except ProjectionAwayError as error:
            _say("heads_unknown", error, _projection_lines)
            for room in rooms:
                room.projection_answered = False
            return False
        for room in rooms:
            head = heads[room.key]
            room.projection_answered = True
            room.first_seq = head.first_seq
            room.learn(head.head_seq)
        return True


def _say(event: str, error: Exception, lines: LineBudget) -> None:
    """Once a minute: it is tried again at every tick."""
    if (left_out := lines.take()) is not None:
        _log.warning(event, error=str(error), left_out=left_out)


def _is_known(room: Watched, up_to: int) -> None:
    """The stream has said all that it holds of the room up to there."""
    room.stream_answered, room.is_hidden, room.looked_to = True, False, up_to


def _is_not_known(room: Watched) -> None:
    room.stream_answered, room.is_hidden = False, True
