"""Setting all rooms back to what the stream really holds, where it is another than it was, or an older copy.

Invariant: nothing is published before it has come to its end. What a leader has counted it does not count again where
an answer fails to come; the next leader does, as nobody tells it what was published since.
"""

from datetime import UTC, datetime, timedelta

from services.command.relay.heads import last_events
from services.command.relay.outbox import START, list_published, reset_published
from shared.messaging.broker import Broker
from shared.messaging.direct_get import MOST_SUBJECTS
from shared.messaging.stream import StreamIdentity, StreamSettings, StreamState
from shared.postgres import Connection


class Recount:
    """One leader's."""

    def __init__(self) -> None:
        self._identity: StreamIdentity | None = None
        self._after = START
        """The room up to which they are counted, in the stream of that identity."""

    def forget(self) -> None:
        """What is published from here on is not counted."""
        self._identity = None

    async def run(self, connection: Connection, broker: Broker, stream: StreamState, settings: StreamSettings) -> None:
        if stream.identity != self._identity:
            self._identity, self._after = stream.identity, START
        oldest_kept = datetime.now(UTC) - timedelta(seconds=settings.max_age_seconds)
        while rooms := await list_published(connection, self._after, MOST_SUBJECTS):
            left = rooms
            while left:
                last = await last_events(connection, broker, left, stream.last_seq)
                found = {room: 0 for room in left if room not in last.left}
                found |= {room: event.stream_seq for room, event in last.found.items()}
                await reset_published(connection, found, oldest_kept)
                left = [room for room in left if room in last.left]
            self._after = rooms[-1]
        self.forget()
