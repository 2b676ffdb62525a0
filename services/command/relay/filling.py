"""Whether the stream holds what the event store had, and telling readers once it does.

Invariant: a stream that is new, or came back older, is called filled only after all there was to publish was read in
one round, and is on it. What is withheld is not waited for. Whoever leads finds that out anew, by what the stream says.
"""

import structlog

from shared.messaging.broker import Broker, JetStreamError
from shared.messaging.stream import StreamIdentity, StreamState, mark_filled
from shared.telemetry import Logger

_log: Logger = structlog.get_logger("relay")


class Filling:
    """What the leader has seen of both. ``tell`` is called once ``is_over`` and what was read last is published."""

    def __init__(self, broker: Broker) -> None:
        self._is_whole = False
        self._has_read_all = False
        self._broker = broker
        self._is_to_be_marked = False

    @property
    def is_over(self) -> bool:
        """Whether readers are to be told, once what was read last is published."""
        return self._has_read_all and self._is_to_be_marked

    def begin(self, stream: StreamState) -> None:
        """From here on nothing that was read before counts."""
        self._is_whole = self._has_read_all = False
        self.see(stream)

    def see_page(self, *, is_first: bool, is_cut: bool, is_last: bool) -> None:
        """A page of a round of the event store was read, and is published before the next one is.

        ``is_cut``: it ends in the midst of a room, the rest of which is read in the next round.
        """
        self._is_whole = (self._is_whole or is_first) and not is_cut
        self._has_read_all = self._is_whole and is_last

    def see(self, stream: StreamState) -> None:
        """Whether it says that it is filled: somebody may have changed that."""
        self._is_to_be_marked = not stream.is_filled

    async def tell(self, identity: StreamIdentity) -> None:
        """Raises ``BrokerUnavailableError``."""
        self._is_to_be_marked = False
        try:
            await mark_filled(self._broker, identity)
        except JetStreamError as error:
            # Such as a stream that is closed for good. Tried again once it has been looked at again.
            _log.warning("stream_not_marked", error=str(error))
