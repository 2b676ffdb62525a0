"""COPY whose connection is lost while most of it is still to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.projector.copying import Copy, copy_columns
from shared.postgres import STORE_ERRORS, Connection, connect

_ROWS = 100
_LARGE = 100_000
"""Bytes of a row: far more rows than the sockets between hold."""


@pytest.fixture(scope="module")
async def watcher(projection_dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(projection_dsn, "test")
    await connection.execute("create table copied (name text, data bytea)")
    yield connection
    await connection.close()


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_a_copy_that_is_not_taken_ends_with_its_connection(
    watcher: Connection, projection_dsn: str, unheard: list[dict[str, Any]], *, binary: bool
) -> None:
    copy = Copy("copied", ("name", "data") if binary else ("name",), binary=binary)
    columns: list[list[Any]] = [["x" * _LARGE] * _ROWS, [b"x" * _LARGE] * _ROWS][: len(copy.columns)]
    connection = await connect(projection_dsn, "test")
    pid = connection.get_server_pid()
    async with watcher.transaction():
        await watcher.execute("lock table copied in share mode")
        copying = asyncio.create_task(copy_columns(connection, "copied", copy, columns))
        async with asyncio.timeout(10):
            while not await watcher.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # until no more of it is taken
        await watcher.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises(STORE_ERRORS) as raised:
            async with asyncio.timeout(10):
                await copying
    assert not isinstance(raised.value, TimeoutError)
    assert await watcher.fetchval("select count(*) from copied") == 0
    assert unheard == []
