"""Whether the stream holds what the event store had, and telling readers once it does.

Invariant: a stream that is new, or came back older, is called filled only after all there was to publish was read in
one round, and is on it. What is withheld is not waited for. Whoever leads finds that out anew, by what the stream says,
and tells readers nothing before there has been such a round of its own.
"""

import asyncio
import secrets
import time

import structlog

from shared.contracts.filled import TELLER_BYTES, Told, telling
from shared.contracts.subjects import RELAY_FILLED_SUBJECT
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamIdentity, StreamState, mark_filled, stream_state
from shared.tasks import end_tasks
from shared.telemetry import Logger

_TELL_SECONDS = 1.0
"""How often readers are told. They wait for three times as long."""

_log: Logger = structlog.get_logger("relay")


class Filling:
    """What the leader has seen of both. ``mark`` is called once ``is_over`` and what was read last is published."""

    def __init__(self, broker: Broker) -> None:
        self._is_whole = False
        self._has_read_all = False
        self._broker = broker
        self._is_to_be_marked = False
        self._teller = secrets.token_hex(TELLER_BYTES)
        self._tell_at = 0.0
        self._telling: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the stream is to be marked, once what was read last is published."""
        return self._has_read_all and self._is_to_be_marked

    def begin(self, stream: StreamState) -> None:
        """From here on nothing that was read before counts."""
        self._is_whole = self._has_read_all = False
        self.see(stream)

    async def end(self) -> None:
        """From here on another may lead."""
        if self._telling is not None:
            await end_tasks(self._telling)

    def see_page(self, *, is_first: bool, is_cut: bool, is_last: bool) -> None:
        """A page of a round of the event store was read, and is published before the next one is.

        ``is_cut``: it ends in the midst of a room, the rest of which is read in the next round, or rooms of it were not
        come to.
        """
        self._is_whole = (self._is_whole or is_first) and not is_cut
        self._has_read_all = self._has_read_all or (self._is_whole and is_last)

    def see(self, stream: StreamState) -> None:
        """Whether it says that it is filled: somebody may have changed that."""
        self._is_to_be_marked = not stream.is_filled

    async def mark(self, identity: StreamIdentity) -> None:
        """Raises ``BrokerUnavailableError``."""
        self._is_to_be_marked = False
        try:
            await mark_filled(self._broker, identity)
        except JetStreamError as error:
            # Such as a stream that is closed for good. Tried again once it has been looked at again.
            _log.warning("stream_not_marked", error=str(error))

    def tell(self, identity: StreamIdentity, position: int) -> None:
        """Has readers told, every so often, if the stream is what it was left as: of that identity, no shorter, filled.

        To be called where what was read last is published. Nothing waits for it.
        """
        now = time.monotonic()
        if now < self._tell_at or not self._has_read_all or self._is_to_be_marked:
            return
        if self._telling is None or self._telling.done():
            self._tell_at = now + _TELL_SECONDS
            self._telling = asyncio.create_task(self._tell(identity, position), name="tell readers")

    async def _tell(self, identity: StreamIdentity, position: int) -> None:
        try:
            # Never the other way round: readers rely on that this was asked after they were told the last time.
            stream = await stream_state(self._broker)
            if stream is None or not stream.is_filled or stream.identity != identity or stream.last_seq < position:
                return
            await self._broker.client.publish(RELAY_FILLED_SUBJECT, telling(Told(identity.key, self._teller)))
        except (BrokerUnavailableError, JetStreamError, *BROKER_ERRORS) as error:
            # The relay finds out by itself; readers wait.
            _log.debug("readers_not_told", error=str(error))
