"""The services behind the edge, and how one comes back."""

from __future__ import annotations

import asyncio

from deploy.local import LocalStack
from deploy.local.service import Service


def query_of(stack: LocalStack) -> Service:
    assert stack.query is not None
    return stack.query


async def ready_again(service: Service) -> None:
    service.start()
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(service.is_ready):
            await asyncio.sleep(0.05)
