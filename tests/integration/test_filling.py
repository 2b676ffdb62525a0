"""A stream that was emptied, while the relay fills it and no projector runs: no right cursor is taken for wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy.local import EmbeddedNats
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamState, stream_state
from tests.contract.sse import Comment, Control
from tests.support.servers import MigratedDatabases, as_service

from .command.deployment import Client, command_service, locked_rooms
from .command.deployment import running as running_commands
from .command.test_relay import the_leader
from .query.service import WORKSPACE, QueryService
from .query.service import running as running_query


@pytest.fixture
async def query(projection_dsn: str, fresh_nats: EmbeddedNats) -> AsyncIterator[QueryService]:
    """One that resets at once where it resets at all: before its first heartbeat."""
    variables = as_service("query", nats=fresh_nats.url, PROJECTION_DSN=projection_dsn)
    async with running_query(variables | {"CURSOR_AHEAD_GRACE_SECONDS": "0", "HEARTBEAT_SECONDS": "1"}) as query:
        yield query


async def stream_that(nats: EmbeddedNats, is_meant: Callable[[StreamState], bool]) -> StreamState:
    """The stream, once it is as it is meant."""
    async with Broker(nats.url, name="test") as broker, asyncio.timeout(20):
        broker.start()
        await broker.wait_connected()
        while (state := await stream_state(broker)) is None or not is_meant(state):
            await asyncio.sleep(0.02)
        return state


async def test_a_right_cursor_waits_for_an_emptied_stream_to_be_filled_and_a_wrong_one_is_reset_then(
    migrated_databases: MigratedDatabases, fresh_nats: EmbeddedNats, query: QueryService, tmp_path: Path
) -> None:
    dsn = migrated_databases.copy("event_store")
    first, second = (command_service(tmp_path, dsn, fresh_nats.url) for _ in range(2))
    async with (
        running_commands(first),
        Client([first], WORKSPACE) as client,
        Client([second], WORKSPACE) as another,
        AsyncExitStack() as holding,
    ):
        await client.tell_run("held", 1)
        for _ in range(3):
            await client.tell_run("room", 1)
        before = await stream_that(fresh_nats, lambda state: state.is_filled and state.last_seq == 16)
        # The relay makes the stream again; before it fills it, it has to have the rooms, to see how far it has come.
        await holding.enter_async_context(locked_rooms(dsn))
        await asyncio.to_thread(fresh_nats.stop)
        shutil.rmtree(fresh_nats.data_dir / "jetstream")
        await asyncio.to_thread(fresh_nats.start)
        emptied = await stream_that(fresh_nats, lambda state: state.identity != before.identity)
        async with query.stream("room", 12) as viewer, query.stream("room", 50) as astray:
            for stream in (viewer, astray):
                assert isinstance(await stream.item(), Comment)
            # Whoever leads next has it all to do.
            await asyncio.to_thread(first.kill)
            async with running_commands(second):
                assert await the_leader([second]) is second
                for stream in (viewer, astray, viewer, astray):
                    assert isinstance(await stream.item(), Comment)
                assert await stream_that(fresh_nats, lambda state: True) == emptied
                await holding.aclose()
                assert await viewer.control() == Control("caught-up", {"stream_seq": 12})
                reset = {"reason": "cursor_ahead", "first_seq": 13, "head_seq": 12}
                assert await astray.control() == Control("reset", reset)
                assert await astray.control() == Control("caught-up", {"stream_seq": 12})
                await another.tell_run("room", 1)
                for stream in (viewer, astray):
                    assert [one.seq for one in await stream.events(4)] == [13, 14, 15, 16]
