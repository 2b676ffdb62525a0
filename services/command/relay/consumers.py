"""The consumers of the stream, which are the projectors', and the end of any other.

Invariant: what nobody asks for is not sent for long. A projector asks for what it reads and acknowledges nothing. What
is delivered by itself, or again until somebody has acknowledged it, goes on when whoever made it so is gone, with a new
key and with another server, for as long as anybody listens there.
"""

import asyncio
import random
from typing import Any

import structlog

from services.command import metrics
from shared.contracts.subjects import STREAM
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.telemetry import Logger

_EVERY_SECONDS = 5.0
_UNANSWERED = 3
"""After so many of which nobody says anything, as of those on a server that is away, the others are left for the next
round. Each takes two seconds."""
_SHOWN = 200

_log: Logger = structlog.get_logger("relay")


class Consumers:
    """One leader's look at them. ``run`` works until cancelled."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def run(self) -> None:
        while True:
            try:
                await self._remove_strange()
            except (BrokerUnavailableError, JetStreamError) as error:
                # Such as a stream that is not there yet, or a NATS that has the users of another release.
                _log.debug("consumers_not_seen", error=str(error))
            await asyncio.sleep(_EVERY_SECONDS)

    async def _remove_strange(self) -> None:
        names = await self._names()
        # Whoever is passed over this time is not the next.
        random.shuffle(names)
        removed: dict[str, dict[str, Any]] = {}
        unanswered = 0
        for name in names:
            try:
                # One at a time, as each may be as large as a message: so may what somebody has written there.
                config = (await self._broker.jetstream(f"CONSUMER.INFO.{STREAM}.{name}"))["config"]
                if is_strange(config):
                    await self._broker.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}")
                    removed[name] = config
            except JetStreamError:
                continue  # it has gone by itself
            except BrokerUnavailableError:
                unanswered += 1
                if unanswered == _UNANSWERED:
                    break
        if removed:
            metrics.RELAY_CONSUMERS_REMOVED.inc(len(removed))
            name, config = min(removed.items())
            to = str(config.get("deliver_subject") or "")
            _log.warning("consumers_removed", consumers=len(removed), first=name[:_SHOWN], delivered_to=to[:_SHOWN])

    async def _names(self) -> list[str]:
        names: list[str] = []
        while page := (await self._broker.jetstream(f"CONSUMER.NAMES.{STREAM}", {"offset": len(names)}))["consumers"]:
            names += page
        return names


def is_strange(config: dict[str, Any]) -> bool:
    """Whether no projector makes such a consumer."""
    return bool(config.get("deliver_subject")) or config.get("ack_policy") != "none"
