"""One watched room: its newest frames, how far it is known to have come, and who waits for more.

Invariant: the ring grows by exactly the next event, whether that came live or from history. A live message only ever
says "this event exists"; one that is early waits aside, one that is late is dropped, and a hole is filled from history
by the room's own task, once for all viewers, for as long as it takes.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from operator import length_hint
from typing import Final, Protocol

import structlog
from nats.aio.subscription import Subscription

from services.query.feed.delivery import Deliveries, Delivery
from services.query.feed.frame import event_frame
from services.query.feed.looker import Looker
from services.query.feed.misplaced import Misplaced, fault_of
from services.query.feed.replay import PAGE_EVENTS, Replay, Trimmed
from services.query.feed.ring import Ring
from services.query.metrics import HOLES_FILLED
from services.query.settings import FeedSettings
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import room_subject, stream_seq_in
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError
from shared.tasks import begin_shared
from shared.telemetry import LineBudget, Logger

_LEAST_PAUSE: Final = 0.05
_MOST_PAUSE: Final = 1.0
_MOST_EARLY: Final = 64
_REST_SECONDS: Final = 60e-6
"""For each viewer told: about four times what serving it takes."""
_MOST_REST_SECONDS: Final = 0.25
_TOLD_AT_ONCE: Final = 256

_log: Logger = structlog.get_logger("feed")
_unplaced, _misplaced = LineBudget(1), Misplaced()


class Waiter(Protocol):
    def news(self, ring: Ring | None, /) -> None:
        """Called when there may be something new."""
        ...


class Room:
    """Created for its first viewer, closed after its last one.

    ``waiters`` are told when there may be something new. ``head_seq`` is the last event heard of; ``ring`` is
    None until a source has said where the room is.
    """

    def __init__(
        self,
        key: RoomKey,
        *,
        broker: Broker,
        looker: Looker,
        replay: Replay,
        deliveries: Deliveries,
        settings: FeedSettings,
    ) -> None:
        self.key = key
        self.subject = room_subject(*key)
        self.viewers = 0
        self.ring: Ring | None = None
        self.head_seq = 0
        self.first_seq: int | None = None
        self.waiters: set[Waiter] = set()
        self.projection_answered = False
        self.stream_answered = False
        self.looked_to = 0
        self.is_hidden = False
        self._broker = broker
        self._looker = looker
        self._replay = replay
        self._deliveries = deliveries
        self._delivery: Delivery | None = None
        self._settings = settings
        self._held_seq = 0
        self._early: dict[int, bytes] = {}
        self._attention = asyncio.Event()
        self._closing = False
        self._notice: asyncio.Handle | None = None
        self._rested_at = 0.0
        self._subscription: Subscription | None = None
        self._task = begin_shared(self._keep(), "room")

    @property
    def is_answered(self) -> bool:
        """Whether both sources have said how far the room has come, when they were last asked."""
        return self.projection_answered and self.stream_answered

    def learn(self, stream_seq: int) -> None:
        """An event at this position exists, a source says."""
        self._held_seq = max(self._held_seq, stream_seq)
        self._hear_of(stream_seq)

    async def latest(self) -> int:
        """The last event that a source holds, or that has followed on those live: of a number that lies beyond, which
        only a live message has named, the sources are asked."""
        ring = self.ring
        if ring is None or not ring.covers(self._held_seq) or ring.last < self.head_seq:
            await self.look()
            ring = self.ring
        if ring is not None and ring.covers(self._held_seq):
            return ring.last
        # Where they have not said anything, better what was heard than all of history.
        return self._held_seq if self._held_seq or self.is_answered else self.head_seq

    def attend(self) -> None:
        """Something outside has changed, such as the connection to NATS: look after subscription and holes now."""
        self._attention.set()

    async def look(self, *, closely: bool = False) -> bool:
        """Asks the projection and the stream how far the room has come; whether both have said so, as in ``Looker``."""
        return await (self._looker.look_closely if closely else self._looker.look)(self)

    def close(self) -> asyncio.Task[None]:
        """Lets the room's task give the subscription back and end; the task, to be waited for."""
        # Not by cancelling: in the midst of subscribing that would lose a subscription for good.
        self._closing = True
        self._attention.set()
        return self._task

    def receive(self, subject: str, _reply: str, headers: bytes, envelope: bytes) -> None:
        """One live message."""
        if subject != self.subject:  # as no server sends it here, unless it was read wrongly
            _misplaced.report("live_message_of_another_subject", **self.key._asdict())
            return
        seq = stream_seq_in(headers)
        if not seq:
            if (left_out := _unplaced.take()) is not None:
                _log.warning("live_message_without_position", **self.key._asdict(), left_out=left_out)
            return
        if (fault := fault_of(envelope, self.key)) is not None:
            _misplaced.report(f"live_message_{fault}", **self.key._asdict())
            return
        if self.waiters:
            self._delivery = self._deliveries.take(self._delivery, seq, headers, envelope)
        self._offer(seq, envelope)

    def _offer(self, stream_seq: int, envelope: bytes) -> None:
        ring = self.ring
        if ring is not None and ring.append(stream_seq, event_frame(stream_seq, envelope)):
            self._admit_early(ring)
            self.head_seq = max(self.head_seq, ring.last)
            self._notify()
        elif ring is None or stream_seq > ring.last:
            self._set_aside(stream_seq, envelope)
            self._hear_of(stream_seq)
        elif (held := ring.frame(stream_seq)) is not None and held != event_frame(stream_seq, envelope):
            # One of the two was made up, and nobody here knows which: whoever asks from now on has it from history.
            _misplaced.report("live_message_of_another_event", **self.key._asdict())
            ring.rebase(ring.last)

    def _hear_of(self, stream_seq: int) -> None:
        if stream_seq > self.head_seq:
            self.head_seq = stream_seq
            self._notify()
        if self.ring is None or self.ring.last < self.head_seq:
            self._attention.set()

    def _set_aside(self, stream_seq: int, envelope: bytes) -> None:
        # What does not fit is only read back from the stream later.
        held = sum(map(len, self._early.values()))
        if len(self._early) < _MOST_EARLY and held + len(envelope) <= self._settings.ring_bytes:
            self._early[stream_seq] = envelope

    def _admit_early(self, ring: Ring) -> None:
        while (envelope := self._early.pop(ring.last + 1, None)) is not None:
            ring.append(ring.last + 1, event_frame(ring.last + 1, envelope))
        for stream_seq in [seq for seq in self._early if seq <= ring.last]:
            del self._early[stream_seq]

    def _notify(self) -> None:
        """Tells the waiters: at once if they have rested, else as soon as they have.

        Whoever is told sends all there is. With many viewers and many events this is what joins frames in one send
        and leaves the process time for anything else.
        """
        if self._notice is None:
            loop = asyncio.get_running_loop()
            rest = self._rested_at - loop.time()
            # In the next turn of the loop: the message after this one may have been read already.
            self._notice = loop.call_later(rest, self._tell) if rest > 0 else loop.call_soon(self._tell)

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        self._notice = None
        self._rested_at = loop.time() + min(len(self.waiters) * _REST_SECONDS, _MOST_REST_SECONDS)
        self._tell_some(iter(list(self.waiters)), loop)

    def _tell_some(self, waiters: Iterator[Waiter], loop: asyncio.AbstractEventLoop) -> None:
        """Tells a number of them now and the others in the next turn of the loop, so that none of its turns is long."""
        ring = self.ring
        for waiter in islice(waiters, _TOLD_AT_ONCE):
            try:
                waiter.news(ring)
            except Exception:  # one viewer's trouble is not that of those after it
                _log.exception("viewer_failed", room_id=self.key.room_id)
        if length_hint(waiters):
            loop.call_soon(self._tell_some, waiters, loop)
        elif ring is not None:
            ring.settle()
            if (delivery := self._delivery) is not None and ring.last >= delivery.last_seq:
                self._delivery = None
                if self.waiters:
                    self._deliveries.finish(delivery, len(self.waiters))

    async def _keep(self) -> None:
        pause = _LEAST_PAUSE
        while not self._closing:
            self._attention.clear()
            try:
                settled = await self._advance()
            except Exception:
                _log.exception("room_failed", room_id=self.key.room_id)
                settled = False
            if settled:
                pause = _LEAST_PAUSE
                await self._attention.wait()
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MOST_PAUSE)
        if self._subscription is not None:
            with suppress(BrokerUnavailableError, *BROKER_ERRORS):
                await self._subscription.unsubscribe()

    async def _advance(self) -> bool:
        """Looks after everything once; whether nothing is left to try again for.

        What only an answer of PostgreSQL or NATS can change is not tried again here: the hub asks for all rooms.
        """
        if self._subscription is None and self._broker.is_connected:
            with suppress(BrokerUnavailableError, *BROKER_ERRORS):
                self._subscription = await self._broker.listen(self.subject, self.receive)
        if self.ring is None:
            # After subscribing, on the same connection: no event falls between the tail and the first live one.
            await self.look()
            # A stream that has nothing of the room says nothing about what the projection holds; nor does a projection
            # without anything of what the stream may hold that was not found yet.
            if self.head_seq == 0 and (self.is_hidden or not self.projection_answered):
                return True
            self.ring = self._new_ring()
            self._admit_early(self.ring)
            self._notify()
            self._looker.look_again(self)
        return await self._fill(self.ring)

    def _new_ring(self) -> Ring:
        settings = self._settings
        # Early live messages may be ahead of what can be read back yet: the ring begins before them.
        base = min([self.head_seq, *(seq - 1 for seq in self._early)])
        return Ring(base, most_events=settings.ring_events, most_bytes=settings.ring_bytes)

    async def _fill(self, ring: Ring) -> bool:
        """Brings the ring up to the head; whether it is there."""
        hint = 0
        while ring.last < self.head_seq:
            if self.head_seq - ring.last > max(1, self._settings.ring_events // 2):
                # Too much to push through the ring: every viewer reads it from history, in pages they share.
                self._rebase(ring)
                break
            most_events = min(self.head_seq - ring.last, PAGE_EVENTS)
            found = await self._replay.read(self.key, ring.last, most_events, hint)
            if found is None:
                return ring.last >= self.head_seq
            if isinstance(found, Trimmed):
                self._rebase(ring)
                break
            for entry in found:
                if ring.append(entry.stream_seq, event_frame(entry.stream_seq, entry.envelope)):
                    HOLES_FILLED.inc()
                hint = entry.position
            self._admit_early(ring)
            self.head_seq = max(self.head_seq, ring.last)
            self._notify()
        return True

    def _rebase(self, ring: Ring) -> None:
        ring.rebase(self.head_seq)
        self._admit_early(ring)
        self._notify()
