"""One client's stream: an ASGI response that is a cursor and a waiter.

Invariant: what a client gets is ``cursor + 1``, ``cursor + 2``, …: frames follow the cursor they were asked for, from
the room's ring or from history, and nothing else moves it but a reset that the client is told. Only this client's own
task ever waits for this client, and it holds one chunk of frames at the most; the backlog has room for large ones.

A client that is caught up and takes what it gets costs no turn of its task: news are written where they are told, which
takes 14 µs instead of 24, most of them the system call.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
from litestar.types import Receive, Scope, Send

from services.query.feed.answer import END, HEAD, turn_away
from services.query.feed.cursor import LATEST, Latest
from services.query.feed.frame import (
    HEARTBEAT,
    ResetReason,
    caught_up_frame,
    chunk,
    reset_frame,
    retry_frame,
)
from services.query.feed.hub import Hub
from services.query.feed.replay import PAGE_BYTES, Page, Trimmed
from services.query.feed.ring import Ring
from services.query.feed.room import Room
from services.query.feed.streams import Streams
from services.query.metrics import CATCH_UPS, EXPIRED, RESETS, STALLED
from shared.contracts.ids import RoomKey
from shared.http.connection import Connection, connection_of
from shared.http.exchange import current_exchange
from shared.http.identity import Identity
from shared.telemetry import Logger

_RETRIES: Final = tuple(chunk(retry_frame(milliseconds)) for milliseconds in range(1000, 3000, 20))
"""Each client is told another time of these, so that they do not come back all at once."""
_AGAIN_SECONDS: Final = 1.0
"""How soon history that could not be had is asked for again."""
_LOOK_SECONDS: Final = 0.2
_ROOM_SECONDS: Final = 0.25
"""How soon a chunk is tried again that there was no room for: about when somebody else may be dropped for it."""
_STALL_MARGIN_SECONDS: Final = 2.0
"""The kernel ends a stalled connection (``TCP_USER_TIMEOUT``) and so frees everything; where it cannot, we do."""

_NEVER: Final = float("inf")

T = TypeVar("T")
_log: Logger = structlog.get_logger("feed")


class _StreamOver(Exception):  # noqa: N818  # not an error: how the feed is left
    """The client is gone, or the service stops."""


class RoomStream:
    """The ASGI response of one client of a room.

    ``start`` is the cursor the client gave, exclusive; ``head_lines`` go into the head beside its own. The stream is
    the ``identity``'s for as long as its token lasts by the wall clock, which may be put right meanwhile: the shared
    clock ends it then, and history is not even begun.
    """

    __slots__ = (
        "_connection", "_cursor", "_ends_at", "_head_lines", "_hint", "_hub", "_identity", "_is_live", "_is_over",
        "_is_stalled", "_key", "_last_heartbeat", "_loop", "_nap", "_sending_since", "_settings", "_start", "_streams",
        "_task", "_untaken",
    )  # fmt: skip

    def __init__(
        self,
        hub: Hub,
        streams: Streams,
        identity: Identity,
        room_id: str,
        start: int | Latest,
        head_lines: bytes = b"",
    ) -> None:
        self._hub = hub
        self._streams = streams
        self._settings = streams.settings
        self._identity = identity
        self._key = RoomKey(identity.workspace_id, room_id)
        self._head_lines = head_lines
        self._start: int | Latest = start
        self._cursor = 0
        self._is_over = False
        self._is_stalled = False
        self._is_live = False
        self._nap: asyncio.Future[None] | None = None
        self._hint = 0
        self._sending_since: float | None = None
        self._untaken = 0
        self._loop = asyncio.get_running_loop()
        self._last_heartbeat = self._loop.time()
        self._ends_at = _NEVER if identity.expires_at is None else identity.expires_at
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        connection = connection_of(scope)
        if connection is None:
            return
        principal = None if self._identity.expires_at is None else (self._key.workspace_id, self._identity.actor_id)
        limit = "shutdown" if self._streams.is_draining else self._hub.full(self._key, principal)
        if limit is not None:
            await turn_away(send, limit)
            return
        room = self._hub.enter(self._key, principal)
        self._task = asyncio.current_task()
        self._streams.add(self)
        self._connection = connection
        connection.listen(self.end)
        try:
            connection.begin(_head() + self._head_lines)
            connection.hold(random.choice(_RETRIES))  # noqa: S311
            with suppress(_StreamOver):
                await self._feed(room)
            self._is_over = True
            connection.flush()
            self._sending_since = self._loop.time()
            await send(END)
        except asyncio.CancelledError:
            # Cut off in the midst of sending: by our own clock, or by the server at the end of its grace.
            if self._task is None or not (self._is_stalled or self._streams.is_draining):
                raise
            self._task.uncancel()
            STALLED.inc()
            _log.info("stream_stalled", room_id=self._key.room_id)
        finally:
            connection.listen_no_more()
            self._streams.remove(self)
            self._hub.leave(room, principal)

    def news(self, ring: Ring | None) -> None:
        """The room may have changed: writes what follows, or wakes the stream's own task where there is more to it."""
        nap = self._nap
        if nap is None or nap.done():
            return
        if (
            self._is_live and ring is not None and ring.covers(self._cursor) and not self._connection.is_full
            and self._pass_on(ring) and self._cursor == ring.last
        ):  # fmt: skip
            return
        nap.set_result(None)

    def end(self) -> None:
        """Ends the stream as soon as what is being sent is sent."""
        self._is_over = True
        self._rouse()

    def tick(self, now: float, wall_time: float) -> bool:
        """Sees to the heartbeat, the token's end, and a client that takes nothing; whether there was anything to do."""
        if wall_time >= self._ends_at and not self._is_over:
            EXPIRED.inc()
            self.end()
            return True
        if self._sending_since is not None:
            if now - self._sending_since < self._settings.stall_seconds + _STALL_MARGIN_SECONDS or self._is_stalled:
                return False
            if self._takes(now):
                return False
            self._is_stalled = True
            if self._task is not None:
                self._task.cancel()
            return True
        if self._nap is None or now - self._last_heartbeat < self._settings.heartbeat_seconds:
            return False
        if self._connection.is_full:
            _wake(self._nap)
        else:
            self._beat(now)
        return True

    def _takes(self, now: float) -> bool:
        """Whether it has taken anything since the last look, however slowly. A stream that ends has had its time."""
        before, self._untaken = self._untaken, self._connection.untaken
        if self._is_over or self._untaken >= before:
            return False
        self._sending_since = now
        return True

    async def _feed(self, room: Room) -> None:
        while (ring := room.ring) is None:
            await self._sleep(room)
        if self._start == LATEST:
            target = self._cursor = await self._meanwhile(room.latest())
        else:
            self._cursor = self._start
            await self._reach(room)
            target = room.head_seq  # history ends here; what is beyond it is live
        is_behind = False
        while True:
            # First, so that there is nothing to wait for between looking at the ring and sleeping or sending.
            await self._until_free()
            if self._loop.time() - self._last_heartbeat >= self._settings.heartbeat_seconds:
                self._beat(self._loop.time())
            if not self._is_live and self._cursor >= target:
                self._is_live = True
                self._connection.hold(chunk(caught_up_frame(self._cursor)))
            if ring.covers(self._cursor):
                is_behind = False
                if self._cursor == ring.last:
                    await self._sleep(room)
                elif not self._pass_on(ring):
                    await self._sleep(room, _ROOM_SECONDS)
            elif self._cursor > ring.last:
                # The room's own task is bringing the ring up to a head that is known already.
                await self._sleep(room)
            else:
                if self._is_live and not is_behind:
                    is_behind = True
                    CATCH_UPS.inc()
                await self._replay(room)

    def _pass_on(self, ring: Ring) -> bool:
        """Writes a chunk of what follows the cursor, which the ring covers; whether there was room for it."""
        frames, last = ring.after(self._cursor, PAGE_BYTES)
        if not self._connection.write(frames):
            return False
        self._streams.frames_sent += last - self._cursor
        self._cursor = last
        return True

    async def _replay(self, room: Room) -> None:
        """Sends a page of history, or waits for it."""
        self._stop_unless_allowed()
        replay = self._hub.replay
        await replay.turns.take()
        page = replay.kept(self._key, self._cursor)
        if page is None:
            page = await self._meanwhile(replay.page(self._key, self._cursor, self._hint))
            await replay.turns.take()  # others have waited for the same page
            self._stop_unless_allowed()
        if isinstance(page, Page):
            await self._until_free()
            if not self._connection.write(page.chunk):
                page = None  # not to be kept while it waits for room
                await self._sleep(room, _ROOM_SECONDS)
                return
            self._hint = page.hint
            self._streams.frames_sent += page.events
            self._cursor = page.last
            return
        self._hint = 0
        if isinstance(page, Trimmed):
            self._reset("history_trimmed", page.first_seq, max(room.head_seq, page.first_seq - 1))
            self._cursor = page.first_seq - 1
            return
        await self._sleep(room, _AGAIN_SECONDS)

    async def _reach(self, room: Room) -> None:
        """Waits for a room that is behind the cursor.

        The client may have the position from a command answered this very moment, so the stream gets a grace, of which
        no time counts in which a source was away or an answer waited for: the relay waited, too. Only when both sources
        have answered, the stream not while it is being filled, and neither knows of such an event, is the cursor beyond
        the room.
        """
        grace = self._settings.cursor_ahead_grace_seconds
        counts_from = self._loop.time()
        while self._cursor > room.head_seq:
            counts_from = max(counts_from, self._hub.connected_at)
            asked_at = self._loop.time()
            left = counts_from + grace - asked_at
            have_answered = await self._look(room, closely=left <= 0)
            if self._cursor <= room.head_seq:
                break
            if not room.is_answered:
                counts_from = self._loop.time()
            elif left > 0:
                counts_from += self._loop.time() - asked_at
                await self._sleep(room, min(_LOOK_SECONDS, left))
                continue
            elif have_answered and counts_from >= self._hub.connected_at:
                self._reset("cursor_ahead", room.first_seq or room.head_seq + 1, room.head_seq)
                self._cursor = room.head_seq
                break
            await self._sleep(room, _AGAIN_SECONDS)

    def _reset(self, reason: ResetReason, first_seq: int, head_seq: int) -> None:
        RESETS.labels(reason).inc()
        self._connection.hold(chunk(reset_frame(reason, first_seq, head_seq)))

    async def _sleep(self, room: Room, seconds: float | None = None) -> None:
        """Until the room may have changed or the time is up. Raises ``_StreamOver``."""
        self._stop_if_over()
        self._connection.flush()
        self._nap = nap = self._loop.create_future()
        room.waiters.add(self)
        timer = None if seconds is None else self._loop.call_later(max(0.0, seconds), _wake, nap)
        try:
            await nap
        finally:
            if timer is not None:
                timer.cancel()
            room.waiters.discard(self)
            self._nap = None
        self._stop_if_over()

    async def _meanwhile(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives. Raises ``_StreamOver``."""
        self._connection.flush()
        task = self._loop.create_task(work)
        try:
            while not task.done():
                self._stop_if_over()
                self._nap = nap = self._loop.create_future()
                await asyncio.wait({task, nap}, return_when=asyncio.FIRST_COMPLETED)
            self._stop_if_over()
            return task.result()
        finally:
            task.cancel()
            self._nap = None

    async def _look(self, room: Room, *, closely: bool) -> bool:
        """``Room.look``, but no longer than until the room has come to the cursor. Raises ``_StreamOver``."""
        task = self._loop.create_task(room.look(closely=closely))
        task.add_done_callback(self._rouse)
        try:
            while not task.done() and self._cursor > room.head_seq:
                await self._sleep(room)
            return task.done() and task.result()
        finally:
            task.cancel()

    def _rouse(self, *_: object) -> None:
        if self._nap is not None:
            _wake(self._nap)

    def _beat(self, now: float) -> None:
        """On a busy stream too: a client may tell by the heartbeat alone that it is being looked after."""
        self._last_heartbeat = now
        self._connection.write(HEARTBEAT)

    def _stop_if_over(self) -> None:
        if self._is_over:
            raise _StreamOver

    def _stop_unless_allowed(self) -> None:
        """Nobody is shown history that was allowed to see it only when the stream began. Raises ``_StreamOver``."""
        if time.time() >= self._ends_at or not self._identity.may_see(self._key.room_id):
            raise _StreamOver

    async def _until_free(self) -> None:
        """Until the client has taken enough of what was sent before. Raises ``_StreamOver``."""
        if self._connection.is_full:
            self._sending_since = self._loop.time()
            self._untaken = self._connection.untaken
            await self._connection.drain()
            self._sending_since = None
        self._stop_if_over()


def _head() -> bytes:
    exchange = current_exchange()
    if exchange is None:
        return HEAD
    exchange.began(200)
    return b"%bx-request-id: %b\r\n" % (HEAD, exchange.raw_request_id)


def _wake(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
