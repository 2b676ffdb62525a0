"""A command that comes to nothing is gone with its answer, and not with a garbage collection, which comes seldom."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from services.command.domain.batch import Request
from services.command.domain.commands import CreateRun
from services.command.group_commit import GroupCommit, GroupCommitSettings
from services.command.ids import MintedIds
from services.command.submissions import BatchCrashedError, NotStorableError, StoreUnavailableError
from tests.unit.command.given import CALLER, TIME

PATIENCE = 20.0
NOWHERE = "postgresql://nobody@127.0.0.1:1/event_store"


class Watched(CreateRun, frozen=True, kw_only=True, tag="create_run", weakref=True):
    """A command of which one can tell whether it is still there."""


class NoIds(MintedIds):
    def event_id(self) -> str:
        raise RuntimeError("there are no more ids")


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def committing(dsn: str, *, ids: MintedIds | None = None) -> AsyncGenerator[GroupCommit, None]:
    settings = GroupCommitSettings(dsn, 1, 100, 1024 * 1024, 0.3, timedelta(hours=24))
    commit = GroupCommit(settings, ids or MintedIds(), lambda _: None)
    running = asyncio.create_task(commit.run())
    try:
        yield commit
    finally:
        running.cancel()
        await asyncio.wait({running})


def submitted(commit: GroupCommit, room: str) -> tuple[asyncio.Task[object], Callable[[], object]]:
    """The command's task, and what gives the command as long as it is somewhere."""
    command = Watched(room_id=room, title="x" * 1000)
    return asyncio.create_task(commit.submit(Request(CALLER, command, TIME), 1000)), weakref.ref(command)


async def failure(task: asyncio.Task[object]) -> type[BaseException] | None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({task})
    error = task.exception()
    return None if error is None else type(error)


async def until_gone(command: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while command() is not None:
            await asyncio.sleep(0.01)


async def test_one_that_no_store_settles_in_time(event_store_dsn: str) -> None:
    for dsn in (NOWHERE, event_store_dsn):
        async with _locked_rooms(event_store_dsn), committing(dsn) as commit:
            (tried, first), (queued, second) = submitted(commit, "first"), submitted(commit, "second")
            assert await failure(tried) is await failure(queued) is StoreUnavailableError
            del tried, queued
            for command in (first, second):
                await until_gone(command)


async def test_one_that_the_store_refuses(event_store_dsn: str) -> None:
    async with committing(event_store_dsn) as commit:
        task, command = submitted(commit, "a\0b")
        assert await failure(task) is NotStorableError
        del task
        await until_gone(command)


async def test_one_whose_batch_crashes(event_store_dsn: str) -> None:
    async with committing(event_store_dsn, ids=NoIds()) as commit:
        task, command = submitted(commit, "r")
        assert await failure(task) is BatchCrashedError
        del task
        await until_gone(command)


async def test_those_who_wait_behind_a_batch_that_hangs_are_gone_with_their_answers(event_store_dsn: str) -> None:
    """A client that leaves, too: what nobody waits for any more is not kept in the queue."""
    async with _locked_rooms(event_store_dsn), committing(event_store_dsn) as commit:
        first, _ = submitted(commit, "first")
        left, command = submitted(commit, "left")
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait({left})
        del left
        await until_gone(command)
        assert not first.done()
        assert await failure(first) is StoreUnavailableError


@asynccontextmanager
async def _locked_rooms(dsn: str) -> AsyncGenerator[None, None]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("begin; lock table rooms in access exclusive mode")
        yield
    finally:
        await connection.close()
