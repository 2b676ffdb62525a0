"""Which life of the stream it is, and where to go on in it.

Invariant: a position is only used in the stream it was taken in. In any other it is turned into one that is early
enough: what comes again is dropped by its stream_seq, what is skipped would be lost until somebody misses it.
"""

import asyncio
from collections.abc import Callable

import structlog

from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamState, stream_state
from shared.telemetry import Logger

CHECK_SECONDS = 1.0


def resume_after(identity_key: str, position: int, state: StreamState) -> int:
    """The position in the stream after which everything is to be read.

    ``identity_key`` and ``position`` are the checkpoint. A recreated stream is read from its start; one that came back
    older, from where it was cut. When that happened more than once since, only the last cut is known: from the start.
    Nobody waits for a position that the stream has yet to come to, whoever wrote it: what comes before would be missed.
    """
    stream = state.identity
    if identity_key == stream.key:
        return min(position, state.last_seq)
    # Compared as text: whoever may write a checkpoint may write what is no number, or none that can be read.
    if identity_key != f"{stream.created}/{stream.epoch - 1}":
        return 0
    return min(position, stream.rewound_to)


class StreamWatch:
    """Looks at the stream every second and after every reconnect. ``state`` is None while there is none to be seen."""

    def __init__(self, broker: Broker) -> None:
        self.state: StreamState | None = None
        self._broker = broker
        self._listeners: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._log: Logger = structlog.get_logger("stream_watch")
        broker.on_connected(self._on_connected)

    def on_change(self, listener: Callable[[], None]) -> None:
        """``listener`` is called after each reconnect and when the stream's identity changed."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._broker.wait_connected()
            self._wake.clear()
            try:
                self._see(await stream_state(self._broker))
            except (BrokerUnavailableError, JetStreamError) as error:
                self._log.debug("stream_not_seen", error=type(error).__name__)
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _see(self, state: StreamState | None) -> None:
        before, self.state = self.state, state
        key, key_before = (s.identity.key if s else None for s in (state, before))
        if key != key_before:
            self._log.info("stream_seen", identity=key, before=key_before)
            for listener in self._listeners:
                listener()

    async def _on_connected(self) -> None:
        # What was known may be of another life: nothing is built on it before it was looked at again.
        self.state = None
        self._wake.set()
        for listener in self._listeners:
            listener()
