"""Fixtures of the projector's tests: the stream, on a NATS server of the module's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

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


@pytest.fixture
async def unheard() -> AsyncIterator[list[dict[str, Any]]]:
    """Errors that nobody waits for, as the event loop would log them."""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, fault: found.append(fault))
    yield found
    loop.set_exception_handler(None)
