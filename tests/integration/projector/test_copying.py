"""COPY whose connection is lost while most of it is still to be sent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.projector.copying import Copy, copy_columns
from shared.postgres import STORE_ERRORS, Connection, connect, report

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


async def test_a_copy_that_cannot_begin_any_more_leaves_nothing_to_be_said(
    watcher: Connection, projection_dsn: str, unheard: list[dict[str, Any]]
) -> None:
    """Between PostgreSQL's last word on a connection and its end."""
    left: list[dict[str, Any]] = []

    def handle(_: asyncio.AbstractEventLoop, fault: dict[str, Any]) -> None:
        left.append(fault)
        report(cast("Any", SimpleNamespace(default_exception_handler=unheard.append)), fault)

    asyncio.get_running_loop().set_exception_handler(handle)
    told = asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """And keep from the client that the server is gone."""
        there, upstream = await asyncio.open_connection("127.0.0.1", urlsplit(projection_dsn).port)
        back = asyncio.create_task(pass_on(reader, upstream))
        await pass_on(there, writer)
        told.set()
        await back
        upstream.close()
        writer.close()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        connection = await asyncpg.connect(projection_dsn, host="127.0.0.1", port=port)
        await watcher.execute("select pg_terminate_backend($1)", connection.get_server_pid())
        async with asyncio.timeout(10):
            await told.wait()
        await asyncio.sleep(0.1)
        with pytest.raises(asyncpg.InternalClientError):
            await copy_columns(connection, "copied", Copy("copied", ("name",), binary=False), [["x"]])
        connection.terminate()
        del connection
    async with asyncio.timeout(10):
        while not left:
            gc.collect()
            await asyncio.sleep(0.01)
    assert [type(fault["exception"]) for fault in left] == [asyncpg.ConnectionDoesNotExistError]
    assert unheard == []


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
