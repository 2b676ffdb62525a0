"""Applying one batch of one projection.

Invariant: every event of the batch is applied, was applied before, or is wanted from the event store later. An event
that cannot be applied stops its room alone, and however many there are of them in a batch, it is tried a bounded number
of times.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from services.projector import metrics
from services.projector.batch import Batch, Group, Sorting
from services.projector.event_source import EventSource, Hole
from services.projector.folding import fold_in_turns
from services.projector.isolation import Tries, take_apart
from services.projector.partition import UNKNOWN, Room
from services.projector.projection_store import Advance, Mark, Park, PoisonError, ProjectionStore
from services.projector.projections.base import Projection, Recorded, RoomEvents, Write
from shared import tracing
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import progress_subject
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

MOST_TRIES = 32
"""Parts of one batch, until the rest of it is left to later ones: enough to find one event among a batch by halves."""


class _Identifiers(msgspec.Struct):
    event_id: str
    correlation_id: str


class Applier:
    """``name`` is that of the projection's version: of its leases and metrics."""

    def __init__(
        self, projection: Projection, name: str, store: ProjectionStore, events: EventSource, broker: Broker
    ) -> None:
        self._projection = projection
        self._name = name
        self._store = store
        self._events = events
        self._broker = broker
        self._events_well = True
        self._unsaved: dict[Room, Park] = {}
        """Events found to be unfit whose parking is not committed yet."""
        self._log: Logger = structlog.get_logger("applier").bind(projection=name)
        metrics.begin(name)

    async def apply(self, batch: Batch) -> None:
        """Applies the batch, or what can be applied of it; events that cannot be are parked.

        Raises ``LeaseLostError``, after which some of it may have been applied, or one of ``STORE_ERRORS``, after which
        nobody knows. Either way it can be tried again.
        """
        started = time.monotonic()
        rooms, strays = batch.arrivals()
        await self._learn([room for room in rooms if room.applied_seq == UNKNOWN])
        sorting = Sorting(rooms, started)
        if sorting.open:
            await self._fill(sorting)
        groups = sorting.groups()
        before = [portion.before for portion in batch.portions]
        after = [portion.after for portion in batch.portions]
        ours = {portion.partition for portion in batch.portions}
        self._unsaved = {room: park for room, park in self._unsaved.items() if room.partition in ours}
        try:
            await self._commit(groups, after, list(self._unsaved.values()))
        except PoisonError as error:
            if groups:  # otherwise it is what is to be parked that the table does not take
                await self._isolate(groups, before, error, Tries(MOST_TRIES))
            await self._pass(after)
        metrics.APPLY_SECONDS.labels(self._name).observe(time.monotonic() - started)
        metrics.REPEATED.labels(self._name).inc(sorting.repeated)
        if strays:
            metrics.STRAYS.labels(self._name).inc(strays)
            self._log.warning("strays_skipped", messages=strays)

    async def _learn(self, rooms: Sequence[Room]) -> None:
        if rooms:
            applied = await self._store.applied_seqs([room.key for room in rooms])
            for room in rooms:
                room.applied_seq = applied.get(room.key, 0)

    async def _fill(self, sorting: Sorting) -> None:
        """Closes holes from the event store. While that is away, the rooms concerned wait and the others go on."""
        holes = [
            Hole(room.key, room.applied_seq + len(sorting.ordered[room].ready), _up_to(room)) for room in sorting.open
        ]
        try:
            found = await self._events.missing(holes)
            lacking = [(hole.key, hole.applied_seq + 1) for hole in holes if found.lacks(hole)]
            holed = await self._events.holed(lacking) if lacking else set[RoomKey]()
        except STORE_ERRORS as error:
            if self._events_well:
                self._log.warning("event_store_unavailable", rooms=len(holes), error=type(error).__name__)
            self._events_well = False
            for room in sorting.open:
                room.postpone()
            return
        self._events_well = True
        filled = 0
        news: list[Hole] = []
        for room, hole in zip(sorting.open, holes, strict=True):
            stored = found.events.get(room.key, ())
            filled += sorting.fill(room, stored)
            if found.lacks(hole):
                room.postpone()
                if not stored:
                    room.ends_at(hole.applied_seq)
                if room.key in holed and not room.is_holed:
                    news.append(hole)
                room.is_holed = room.key in holed
        if news:  # thousands, perhaps: `verify` names them all
            workspace_id, room_id = news[0].key
            self._log.error(
                "event_missing",
                workspace_id=workspace_id,
                room_id=room_id,
                stream_seq=news[0].applied_seq + 1,
                rooms=len(news),
            )
        metrics.FILLED.labels(self._name).inc(filled)
        self._log.debug("event_store_read", rooms=len(holes), events=filled)

    async def _pass(self, marks: Sequence[Mark]) -> None:
        """Moves the checkpoints on. Where they pass them, the events that could not be applied are parked.

        A partition whose events the table does not take is not moved on by this. The rooms are held back all the
        same, and parking the events is tried with each further try to apply them.
        """
        try:
            await self._commit([], marks, list(self._unsaved.values()))
            return
        except PoisonError as error:
            failed = error
        for mark in marks:
            parks = [park for park in self._unsaved.values() if park.partition == mark.partition]
            try:
                await self._commit([], [mark], parks)
            except PoisonError as error:
                failed = error
                self._unsaved = {room: park for room, park in self._unsaved.items() if park not in parks}
        self._log.error("events_not_parked", error=failed.kind)

    async def _commit(self, groups: Sequence[Group], marks: Sequence[Mark], parks: Sequence[Park] = ()) -> None:
        advances = [
            Advance(room.key, room.partition.number, events[0].stream_seq, events[-1].stream_seq)
            for room, events in groups
        ]
        skips = [(group.room.key, group.room.skip_at) for group in groups if group.skips]
        began_ns = time.time_ns()
        await self._store.apply(await self._fold(groups), advances, marks, parks, skips)
        if parks:
            self._unsaved = {room: park for room, park in self._unsaved.items() if park not in parks}
            metrics.PARKED.labels(self._name).inc(len(parks))
        for key, seq in skips:
            self._log.warning("event_skipped", workspace_id=key.workspace_id, room_id=key.room_id, stream_seq=seq)
        for group, advance in zip(groups, advances, strict=True):
            group.room.advance(advance.applied_seq)
        events = sum(len(group.events) for group in groups)
        metrics.EVENTS.labels(self._name).inc(events)
        metrics.BATCH_SIZE.labels(self._name).observe(events)
        if (tracer := tracing.active()) is not None:
            traces = [event.traceparent for group in groups for event in group.events]
            attributes = {"runroom.projection": self._name, "runroom.batch.events": events}
            tracer.record("apply", "consumer", traces, began_ns, attributes)
        await self._announce(advances)

    async def _fold(self, groups: Sequence[Group]) -> list[Write]:
        rooms = [group.as_room_events() for group in groups]
        try:
            return await fold_in_turns(self._projection, rooms)
        except Exception as error:  # the fold is pure: whatever goes wrong in it is about the events
            kind, said = type(error).__name__, str(error)
        # Not from the error: whoever keeps that keeps what was read of the event, which may be 46 times as large.
        alone = {rooms[0].key: PoisonError(said, kind=kind)}
        raise PoisonError(said, alone if len(rooms) == 1 else await self._fold_each(rooms), kind=kind)

    async def _fold_each(self, rooms: Sequence[RoomEvents]) -> dict[RoomKey, PoisonError]:
        """The rooms whose events cannot be folded, whatever the others are."""
        errors: dict[RoomKey, PoisonError] = {}
        for room in rooms:
            try:
                await fold_in_turns(self._projection, [room])
            except Exception as error:
                errors[room.key] = PoisonError.by(error)
        return errors

    async def _isolate(self, groups: Sequence[Group], marks: Sequence[Mark], error: PoisonError, tries: Tries) -> None:
        """Applies what can be applied of a batch that cannot, and holds back the rooms that cannot.

        The checkpoints stay where they are until all of it is done. What is left after so many tries is suspect: it is
        read again and tried later, in batches of its own.
        """
        parts, unfit = take_apart(groups, error)
        for group, reason in unfit:
            self._hold(group.room, group.events[0], reason)
        for part in parts:
            for group in part:
                if not group.follows:  # what is before it did not get through
                    group.room.want(group.events[-1].stream_seq)
            following = [group for group in part if group.follows]
            if following and not tries.take():
                for group in following:
                    group.room.suspect(group.events[-1].stream_seq)
            elif following:
                try:
                    await self._commit(following, marks)
                except PoisonError as again:
                    await self._isolate(following, marks, again, tries)

    def _hold(self, room: Room, event: Recorded, error: PoisonError) -> None:
        seq = event.stream_seq
        self._unsaved[room] = Park(room.key, room.partition.number, seq, error.text)
        if room.hold(seq, error.kind):
            self._log.error(
                "event_parked",
                workspace_id=room.key.workspace_id,
                room_id=room.key.room_id,
                stream_seq=seq,
                error=room.reason,
                **_identifiers(event.envelope),
            )

    async def _announce(self, advances: Sequence[Advance]) -> None:
        """Tells whoever waits for these rooms. Best effort: they look for themselves too."""
        with suppress(BrokerUnavailableError, *BROKER_ERRORS):
            client = self._broker.client
            for key, _, _, applied_seq in advances:
                progress = f'{{"projection":"{self._projection.name}","stream_seq":{applied_seq}}}'
                await client.publish(progress_subject(*key), progress.encode())


def _up_to(room: Room) -> int:
    """No more is read of a room that is held back than what holds it, before that is known to be right now."""
    return room.held_at if room.held_at > room.applied_seq and not room.skip_at else room.wanted_seq


def _identifiers(envelope: bytes) -> dict[str, str]:
    """By which to find the event elsewhere; nothing of one that cannot be read."""
    try:
        found = msgspec.json.decode(envelope, type=_Identifiers)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {"event_id": found.event_id, "correlation_id": found.correlation_id}
