"""Fixtures of the projector's tests: the stream, on a NATS server of the module's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deploy.local import EmbeddedNats
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings, ensure_stream


@pytest.fixture(scope="module")
async def broker(fresh_nats: EmbeddedNats) -> AsyncIterator[Broker]:
    broker = Broker(fresh_nats.url, name="test")
    broker.start()
    await broker.wait_connected()
    yield broker
    await broker.close()


@pytest.fixture(scope="module")
async def stream_url(fresh_nats: EmbeddedNats, broker: Broker) -> str:
    """The NATS server, with the stream on it, empty."""
    await ensure_stream(broker, StreamSettings())
    return fresh_nats.url
