"""How much is committed and not yet on the stream.

Invariant: it is measured by every instance, not by the leader alone: without a leader, or without a broker to lead for,
somebody has to say how far the stream is behind.
"""

import asyncio

import structlog

from services.command import metrics
from services.command.relay import outbox
from shared.messaging.broker import Broker
from shared.postgres import STORE_ERRORS, Pool
from shared.telemetry import Logger

_PERIOD_SECONDS = 5.0

_log: Logger = structlog.get_logger("relay")


async def measure_lag(pool: Pool, broker: Broker) -> None:
    """Never returns."""
    while True:
        try:
            waiting = await outbox.count_unpublished(pool, broker.most_bytes)
        except STORE_ERRORS as error:
            _log.debug("relay_lag_not_measured", error=type(error).__name__)
        else:
            metrics.RELAY_UNPUBLISHED_ROOMS.set(waiting.rooms)
            metrics.RELAY_UNPUBLISHED_EVENTS.set(waiting.events)
            metrics.RELAY_UNPUBLISHED_SECONDS.set(waiting.seconds)
        await asyncio.sleep(_PERIOD_SECONDS)
