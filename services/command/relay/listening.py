"""Hearing the pings of the instances that do not lead, for as long as nothing else comes there.

Invariant: what comes there costs the relay wake-ups, and not the connection it publishes on. NATS sends an answer
wherever it was asked to, and a consumer delivers wherever it was made to; of a connection that takes less than comes
there, NATS makes an end. Without pings, what others have committed is found by the poll.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from nats.aio.subscription import Subscription

from services.command.relay.wake import MOST_BYTES, rooms_heard
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import RELAY_WAKE_SUBJECT
from shared.messaging.broker import BROKER_ERRORS, Broker
from shared.messaging.stream import CONSUMER_SECONDS
from shared.tasks import end_tasks
from shared.telemetry import Logger

_PAUSE_SECONDS = CONSUMER_SECONDS + 30.0
"""After what is no ping: until consumers that deliver there have gone for want of anybody who listens."""

_log: Logger = structlog.get_logger("relay")


class Listening:
    """``heard`` gets the rooms that a ping names, or none."""

    def __init__(self, broker: Broker, heard: Callable[[Sequence[RoomKey]], None]) -> None:
        self._broker = broker
        self._heard = heard
        self._subscription: Subscription | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._again_at = 0.0

    async def go_on(self) -> None:
        """To be called every so often: listens, if it is time to. Raises ``BrokerUnavailableError``."""
        if self._subscription is None and time.monotonic() >= self._again_at:
            self._subscription = await self._broker.listen(RELAY_WAKE_SUBJECT, self._receive)

    async def end(self) -> None:
        if self._stopping is not None:
            await end_tasks(self._stopping)
        await self._stop()

    def _receive(self, _subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        if not (reply or headers) and len(payload) <= MOST_BYTES:
            self._heard(rooms_heard(payload))
        elif self._stopping is None or self._stopping.done():
            self._heard([])
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            self._stopping = asyncio.create_task(self._stop(), name="stop listening")
            _log.warning("relay_wake_misused", bytes=len(payload), seconds=_PAUSE_SECONDS)

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(*BROKER_ERRORS):
                await subscription.unsubscribe()
