"""What the stream holds behind the position that is recorded: published, but not recorded any more by who did.

Invariant: what was read is recorded while the rest is being read, so that the next leader goes on there; but no
position behind a stranger is, as the next leader has to come upon that one, too.
"""

import time
from collections.abc import Sequence

from services.command.relay.heads import Event, event_of, judge
from services.command.relay.leader import keep_leading
from services.command.relay.unrecorded import Standing, Unrecorded
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import STREAM_SUBJECTS
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import StoredMessage, next_by_leader, next_by_subject
from shared.messaging.stream import StreamState
from shared.postgres import Connection

_PAGE_MESSAGES = 1000
_PAGE_BYTES = 1024 * 1024
"""Which come within a lease wherever events can be published."""
_SECONDS = 10.0
_RECORD_SECONDS = 2.0
"""How much reading is done again by the next leader, at the most. A tail as one usually leaves it takes less."""
_NOTHING = Event(0, "")


class _Tail:
    """The rooms of what was read so far. ``strangers`` are by what was judged."""

    def __init__(self) -> None:
        self.strangers: set[RoomKey] = set()
        self._last: dict[RoomKey, Event] = {}
        self._to_judge: dict[RoomKey, Event] = {}

    def add(self, page: Sequence[StoredMessage]) -> None:
        for message in page:
            room, event = event_of(message)
            if room is not None and event.stream_seq > self._last.get(room, _NOTHING).stream_seq:
                self._last[room] = self._to_judge[room] = event

    async def judge(self, connection: Connection) -> dict[RoomKey, int]:
        """The rooms with something new that the event store knows, and the last stream_seq of each."""
        published, strangers = await judge(connection, self._to_judge)
        self.strangers = (self.strangers - published.keys()) | strangers
        self._to_judge = {}
        return published


async def read_tail(
    connection: Connection, broker: Broker, stream: StreamState, position: int, unrecorded: Unrecorded, *, records: bool
) -> set[RoomKey]:
    """Gives the strangers behind the position; what is published of the other rooms there becomes ``unrecorded``.

    ``records``: and is recorded meanwhile. Not where rooms have yet to be set back to what the stream holds.
    """
    tail = _Tail()
    record_at = time.monotonic() + _RECORD_SECONDS
    position = max(position, stream.first_seq - 1)
    while position < stream.last_seq:
        page = await next_by_subject(
            broker, STREAM_SUBJECTS, position + 1, _PAGE_MESSAGES, most_bytes=_PAGE_BYTES, seconds=_SECONDS
        )
        if not page:
            # Nothing of ours may stand there, or nothing any more. Or whoever answered is behind, and what is missed
            # would be published a second time.
            if await next_by_leader(broker, STREAM_SUBJECTS, position + 1) is None:
                break
            raise BrokerUnavailableError(f"the stream's tail from {position + 1} to {stream.last_seq} is not to be had")
        tail.add(page)
        position = page[-1].position
        if records and time.monotonic() >= record_at:
            unrecorded.add(await tail.judge(connection))
            standing = Standing(stream.identity, position)
            await unrecorded.record(connection, standing, stands_still=bool(tail.strangers))
            record_at = time.monotonic() + _RECORD_SECONDS
        else:
            await keep_leading(connection)
    unrecorded.add(await tail.judge(connection))
    return tail.strangers
