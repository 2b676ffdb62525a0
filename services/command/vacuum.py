"""Keeping the table of rooms small, which every commit and the relay update.

Invariant: nothing depends on it. Without it, or without the right to, autovacuum does the same once a minute.
"""

import asyncio

import structlog

from services.command import event_store
from shared.postgres import STORE_ERRORS, Pool
from shared.telemetry import Logger

_PERIOD_SECONDS = 2.0

_log: Logger = structlog.get_logger("vacuum")


async def vacuum_rooms(pool: Pool) -> None:
    """Never returns. No update of a room is a HOT one, as an index depends on both of its numbers; at 5,000 commands a
    second its dead rows double what PostgreSQL needs for a command within half a minute.
    """
    while True:
        await asyncio.sleep(_PERIOD_SECONDS)
        try:
            await event_store.vacuum_rooms(pool)
        except STORE_ERRORS as error:
            _log.debug("rooms_not_vacuumed", error=type(error).__name__)
