from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.local.ports import free_port
from shared.context import RequestContext, current_request, enter_request
from shared.messaging.broker import Broker
from shared.tasks import begin_shared, end_tasks, running_tasks


async def test_a_broker_is_closed_at_the_very_moment_at_which_a_connection_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker(f"nats://127.0.0.1:{free_port()}", name="test")
    connect = asyncio.open_connection
    closing: list[asyncio.Task[None]] = []

    async def refused(*arguments: Any, **options: Any) -> Any:
        try:
            return await connect(*arguments, **options)
        finally:
            # Before whoever waits for the connection hears of it.
            closing.append(asyncio.create_task(broker.close()))

    monkeypatch.setattr(asyncio, "open_connection", refused)
    broker.start()
    async with asyncio.timeout(10):
        while not closing:
            await asyncio.sleep(0.01)
    ended, _ = await asyncio.wait(closing[:1], timeout=5)
    assert ended


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost: list[int] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append(1)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end_tasks(task, again_seconds=0.01)
    assert task.cancelled()
    assert len(lost) == 2


async def test_what_takes_its_time_at_its_end_is_waited_for() -> None:
    ended: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("well")

    async def broken() -> None:
        raise ValueError("broken")

    async with running_tasks(asyncio.create_task(careful()), asyncio.create_task(broken())):
        await asyncio.sleep(0)
    assert ended == ["well"]


async def test_what_is_shared_belongs_to_no_request() -> None:
    async def whose() -> RequestContext | None:
        return current_request()

    async def handle() -> tuple[RequestContext | None, RequestContext | None]:
        enter_request(RequestContext(b"first"))
        return await whose(), await begin_shared(whose(), "shared")

    own, shared = await asyncio.create_task(handle())
    assert own is not None
    assert (own.request_id, shared) == ("first", None)
