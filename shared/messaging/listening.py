"""Hearing the pings of other instances, for as long as nothing else comes there.

Invariant: what comes there costs a service wake-ups, and not its connection. NATS sends an answer wherever it was asked
to, and a consumer delivers wherever it was made to; of a connection that takes less than comes there, NATS makes an
end. So no service relies on pings.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from nats.aio.subscription import Subscription

from shared.messaging.broker import BROKER_ERRORS, Broker
from shared.messaging.stream import CONSUMER_SECONDS
from shared.tasks import end_tasks
from shared.telemetry import Logger

_PAUSE_SECONDS = CONSUMER_SECONDS + 30.0
"""After what is no ping: until consumers that deliver there have gone for want of anybody who listens."""

_log: Logger = structlog.get_logger("messaging")


class Listening:
    """``heard`` gets what a ping says, in no more bytes than that; an empty one is what may have been missed."""

    def __init__(self, broker: Broker, subject: str, most_bytes: int, heard: Callable[[bytes], None]) -> None:
        self._broker = broker
        self._subject = subject
        self._most_bytes = most_bytes
        self._heard = heard
        self._subscription: Subscription | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._again_at = 0.0

    async def go_on(self) -> None:
        """To be called every so often: listens, if it is time to. Raises ``BrokerUnavailableError``."""
        if self._subscription is None and time.monotonic() >= self._again_at:
            self._subscription = await self._broker.listen(self._subject, self._receive)

    async def end(self) -> None:
        if self._stopping is not None:
            await end_tasks(self._stopping)
        await self._stop()

    def _receive(self, _subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        if not (reply or headers) and len(payload) <= self._most_bytes:
            self._heard(payload)
        elif self._stopping is None or self._stopping.done():
            self._heard(b"")
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            self._stopping = asyncio.create_task(self._stop(), name="stop listening")
            _log.warning("listens_no_more", subject=self._subject, bytes=len(payload), seconds=_PAUSE_SECONDS)

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(*BROKER_ERRORS):
                await subscription.unsubscribe()
