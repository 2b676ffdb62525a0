"""One client's stream: an ASGI response that is a cursor and a waiter.

Invariant: what a client gets is ``cursor + 1``, ``cursor + 2``, …: frames follow the cursor they were asked for, from
the room's ring or from history, and nothing else moves it but a reset that the client is told. Only this client's own
task ever waits for this client, and it holds one chunk of frames at the most.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from services.query.feed.cursor import LATEST, Latest
from services.query.feed.frame import (
    BUSY_RETRY_MS,
    HEARTBEAT,
    ResetReason,
    busy_frame,
    caught_up_frame,
    reset_frame,
    retry_frame,
)
from services.query.feed.hub import Hub
from services.query.feed.replay import PAGE_BYTES, Page, Trimmed
from services.query.feed.room import Room
from services.query.feed.streams import Streams
from services.query.metrics import CATCH_UPS, RESETS, STALLED, STREAMS_BUSY
from shared.contracts.ids import RoomKey
from shared.telemetry import Logger

HEADERS: Final[list[tuple[bytes, bytes]]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_RETRY_MS: Final = (1000, 3000)
"""Each client is told another time between these, so that they do not come back all at once."""
_AGAIN_SECONDS: Final = 1.0
"""How soon history that could not be had is asked for again."""
_LOOK_SECONDS: Final = 0.2
_STALL_MARGIN_SECONDS: Final = 2.0
"""The kernel ends a stalled connection (``TCP_USER_TIMEOUT``) and so frees everything; where it cannot, we do."""

T = TypeVar("T")
_log: Logger = structlog.get_logger("feed")


class _StreamOver(Exception):  # noqa: N818  # not an error: how the feed is left
    """The client is gone, or the service stops."""


class RoomStream:
    """The ASGI response of one client of a room.

    ``start`` is the cursor the client gave, exclusive.
    """

    __slots__ = (
        "_hint", "_hub", "_is_gone", "_is_over", "_is_stalled", "_key", "_last_heartbeat", "_loop", "_nap", "_send",
        "_sending_since", "_settings", "_start", "_streams", "_task",
    )  # fmt: skip

    def __init__(self, hub: Hub, streams: Streams, key: RoomKey, start: int | Latest) -> None:
        self._hub = hub
        self._streams = streams
        self._settings = streams.settings
        self._key = key
        self._start: int | Latest = start
        self._is_over = False
        self._is_gone = False
        self._is_stalled = False
        self._nap: asyncio.Future[None] | None = None
        self._hint = 0
        self._sending_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._last_heartbeat = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self._send = send
        limit = "shutdown" if self._streams.is_draining else self._hub.full(self._key)
        if limit is not None:
            STREAMS_BUSY.labels(limit).inc()
            await self._begin(retry_frame(BUSY_RETRY_MS) + busy_frame(limit), more=False)
            return
        with self._hub.watch(self._key) as room:
            self._task = asyncio.current_task()
            self._streams.add(self)
            watcher = asyncio.create_task(self._watch_for_disconnect(receive), name="disconnect")
            try:
                with suppress(_StreamOver):
                    await self._begin(retry_frame(random.randint(*_RETRY_MS)), more=True)  # noqa: S311
                    await self._feed(room)
                if not self._is_gone:
                    await self._write(b"", more=False)
            except asyncio.CancelledError:
                # Cut off in the midst of sending: by our own clock, or by the server at the end of its grace.
                if self._task is None or not (self._is_stalled or self._streams.is_draining):
                    raise
                self._task.uncancel()
                STALLED.inc()
                _log.info("stream_stalled", room_id=self._key.room_id)
            finally:
                watcher.cancel()
                self._streams.remove(self)

    def end(self) -> None:
        """Ends the stream as soon as what is being sent is sent."""
        self._is_over = True
        if self._nap is not None:
            _wake(self._nap)

    def tick(self, now: float) -> bool:
        """Sees to the heartbeat, and to a client that takes nothing; whether there was anything to do."""
        if self._sending_since is not None:
            if now - self._sending_since < self._settings.stall_seconds + _STALL_MARGIN_SECONDS or self._is_stalled:
                return False
            self._is_stalled = True
            if self._task is not None:
                self._task.cancel()
            return True
        if self._nap is None or now - self._last_heartbeat < self._settings.heartbeat_seconds:
            return False
        _wake(self._nap)
        return True

    async def _watch_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self.end()

    async def _feed(self, room: Room) -> None:
        while (ring := room.ring) is None:
            await self._sleep(room)
        cursor = room.head_seq if self._start == LATEST else self._start
        cursor = await self._reach(room, cursor)
        target = room.head_seq  # history ends here; what is beyond it is live
        is_caught_up = is_behind = False
        while True:
            await self._heartbeat_if_due()
            if not is_caught_up and cursor >= target:
                is_caught_up = True
                await self._write(caught_up_frame(cursor))
            if ring.covers(cursor):
                is_behind = False
                if cursor == ring.last:
                    await self._sleep(room)
                    continue
                frames, last = ring.after(cursor, PAGE_BYTES)
                await self._write(frames)
                self._streams.frames_sent += last - cursor
                cursor = last
            elif cursor > ring.last:
                # The room's own task is bringing the ring up to a head that is known already.
                await self._sleep(room)
            else:
                if is_caught_up and not is_behind:
                    is_behind = True
                    CATCH_UPS.inc()
                cursor = await self._replay(room, cursor)

    async def _replay(self, room: Room, cursor: int) -> int:
        """Sends a page of history, or waits for it; the new cursor."""
        page = await self._meanwhile(self._hub.replay.page(self._key, cursor, self._hint))
        if isinstance(page, Page):
            self._hint = page.hint
            await self._write(page.frames)
            self._streams.frames_sent += page.events
            # Pages that are held already and a socket that takes them would never let anybody else run.
            await asyncio.sleep(0)
            return page.last
        self._hint = 0
        if isinstance(page, Trimmed):
            await self._reset("history_trimmed", page.first_seq, max(room.head_seq, page.first_seq - 1))
            return page.first_seq - 1
        await self._sleep(room, _AGAIN_SECONDS)
        return cursor

    async def _reach(self, room: Room, cursor: int) -> int:
        """Waits for a room that is behind the cursor; where to go on from.

        The client may have the position from a command answered this very moment, so the stream gets a grace. Only
        when both sources have answered, and neither knows of such an event, is the cursor beyond the room.
        """
        grace_ends = self._loop.time() + self._settings.cursor_ahead_grace_seconds
        while cursor > room.head_seq:
            is_last_look = self._loop.time() >= grace_ends
            await self._meanwhile(room.look())
            if cursor <= room.head_seq:
                break
            if is_last_look and room.is_certain:
                await self._reset("cursor_ahead", room.first_seq or room.head_seq + 1, room.head_seq)
                return room.head_seq
            await self._sleep(
                room, _AGAIN_SECONDS if is_last_look else min(_LOOK_SECONDS, grace_ends - self._loop.time())
            )
        return cursor

    async def _reset(self, reason: ResetReason, first_seq: int, head_seq: int) -> None:
        RESETS.labels(reason).inc()
        await self._write(reset_frame(reason, first_seq, head_seq))

    async def _sleep(self, room: Room, seconds: float | None = None) -> None:
        """Until the room may have changed or the time is up, with heartbeats. Raises ``_StreamOver``."""
        self._stop_if_over()
        self._nap = nap = self._loop.create_future()
        room.waiters.add(nap)
        timer = None if seconds is None else self._loop.call_later(max(0.0, seconds), _wake, nap)
        try:
            await nap
        finally:
            if timer is not None:
                timer.cancel()
            room.waiters.discard(nap)
            self._nap = None
        self._stop_if_over()
        await self._heartbeat_if_due()

    async def _meanwhile(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives, with heartbeats while it goes on. Raises ``_StreamOver``."""
        task = self._loop.create_task(work)
        try:
            while not task.done():
                self._stop_if_over()
                self._nap = nap = self._loop.create_future()
                await asyncio.wait({task, nap}, return_when=asyncio.FIRST_COMPLETED)
                self._nap = None
                if not task.done():
                    await self._heartbeat_if_due()
            self._stop_if_over()
            return task.result()
        finally:
            task.cancel()
            self._nap = None

    async def _heartbeat_if_due(self) -> None:
        """On a busy stream too: a client may tell by the heartbeat alone that it is being looked after."""
        if self._loop.time() - self._last_heartbeat >= self._settings.heartbeat_seconds:
            self._last_heartbeat = self._loop.time()
            await self._write(HEARTBEAT)

    def _stop_if_over(self) -> None:
        if self._is_over:
            raise _StreamOver

    async def _begin(self, frames: bytes, *, more: bool) -> None:
        start: HTTPResponseStartEvent = {"type": "http.response.start", "status": 200, "headers": HEADERS}
        await self._send(start)
        await self._write(frames, more=more)

    async def _write(self, frames: bytes, *, more: bool = True) -> None:
        """Sends, once the client has taken enough of what was sent before. Raises ``_StreamOver``."""
        event: HTTPResponseBodyEvent = {"type": "http.response.body", "body": frames, "more_body": more}
        self._sending_since = self._loop.time()
        await self._send(event)
        self._sending_since = None
        if more:
            self._stop_if_over()


def _wake(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
