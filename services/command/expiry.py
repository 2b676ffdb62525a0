"""Forgetting outcomes of keyed commands whose time is over.

Invariant: nothing is forgotten before its time, and a long list is worked off in short transactions.
"""

import asyncio
from datetime import UTC, datetime

import structlog

from services.command import event_store
from shared.postgres import STORE_ERRORS, Pool
from shared.telemetry import Logger

_EVERY_SECONDS = 60.0

_log: Logger = structlog.get_logger("expiry")


async def forget_expired_outcomes(pool: Pool) -> None:
    """Works until cancelled. Any number of instances may do this at the same time."""
    while True:
        try:
            while await event_store.forget_outcomes(pool, datetime.now(UTC)):
                pass
        except STORE_ERRORS as error:
            _log.warning("expiry_failed", error=type(error).__name__)
        await asyncio.sleep(_EVERY_SECONDS)
