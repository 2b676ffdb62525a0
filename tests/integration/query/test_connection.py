"""A stream writes to its connection by itself; the server below notices nothing of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from .service import QueryService, running
from .world import Stream, events


@asynccontextmanager
async def connected(query: QueryService) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", query.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def request(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: q", *headers, "", ""]).encode()


async def chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk of a body (RFC 9112, section 7.1)."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    data = await reader.readexactly(size + 2)
    assert data.endswith(b"\r\n")
    return data[:-2]


async def head(reader: asyncio.StreamReader) -> list[str]:
    async with asyncio.timeout(5):
        return (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]


async def health(reader: asyncio.StreamReader) -> bytes:
    status, *headers = await head(reader)
    assert status == "HTTP/1.1 200 OK"
    (length,) = [int(header.split(": ")[1]) for header in headers if header.startswith("content-length")]
    return await reader.readexactly(length)


async def test_the_answer_of_a_stream(query: QueryService, stream: Stream, room: str) -> None:
    """What HTTP says and what the server says by itself, with each write a chunk of whole frames."""
    await stream.publish(events(room, 1, 2))
    async with connected(query) as (reader, writer):
        writer.write(request(f"/v1/streams/rooms/{room}"))
        status, *headers = await head(reader)
        assert status == "HTTP/1.1 200 OK"
        named = dict(header.split(": ", 1) for header in headers)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", named.pop("date"))
        assert named.pop("x-request-id")
        assert named == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "transfer-encoding": "chunked",
        }
        text = b""
        async with asyncio.timeout(5):
            while b"event: caught-up" not in text:
                text += await chunk(reader)
                assert text.endswith(b"\n\n")
            await stream.publish(events(room, 3, 3))
            assert (await chunk(reader)).startswith(b"id: 3\n")


async def test_a_client_that_asks_for_the_end_of_the_connection(query: QueryService, room: str) -> None:
    async with connected(query) as (reader, writer):
        writer.write(request(f"/v1/streams/rooms/{room}", "Connection: close"))
        assert "connection: close" in await head(reader)


async def test_requests_sent_before_the_answer(variables: dict[str, str], stream: Stream, room: str) -> None:
    """They are answered one after the other: what comes after a stream waits for its end."""
    async with running(variables | {"SHUTDOWN_GRACE_SECONDS": "2"}) as query, connected(query) as (reader, writer):
        path = f"/v1/streams/rooms/{room}"
        writer.write(request("/healthz") + request(path) + request("/healthz") + request(path))
        assert await health(reader) == b'{"status":"ok"}'
        assert "transfer-encoding: chunked" in await head(reader)
        async with asyncio.timeout(10):
            while b"event: caught-up" not in await chunk(reader):
                pass
            await stream.publish(events(room, 1, 1))
            assert (await chunk(reader)).startswith(b"id: 1\n")
            assert await query.metric("runroom_query_streams_open") == 1
            stopping = asyncio.create_task(query.stop())
            assert await chunk(reader) == b""
            assert await health(reader) == b'{"status":"ok"}'
            await head(reader)
            assert b"event: busy" in await chunk(reader)
            assert await chunk(reader) == b""
            assert await stopping == 0


async def test_who_leaves_requests_behind_is_forgotten_too(query: QueryService, room: str) -> None:
    await query.until("runroom_query_streams_open", 0)
    async with connected(query) as (reader, writer):
        path = f"/v1/streams/rooms/{room}"
        writer.write(request(path) + request(path))
        await head(reader)
        assert await query.metric("runroom_query_streams_open") == 1
    await query.until("runroom_query_streams_open", 0)


@pytest.mark.parametrize("kind", ["stream", "wait"])
async def test_who_leaves_is_missed_whatever_was_sent_meanwhile(
    variables: dict[str, str], room: str, kind: str
) -> None:
    """Neither a place of ``min_seq`` nor a stream is kept for a client that is gone."""
    wait = f"/v1/runs?room_id={room}&min_seq=9&wait="
    path, taken = {
        "stream": (f"/v1/streams/rooms/{room}", "runroom_query_streams_open"),
        "wait": (f"{wait}30000", "runroom_query_min_seq_waits_total"),
    }[kind]
    async with running(variables | {"WAITERS_LIMIT": "1"}) as query:
        async with connected(query) as (_, writer):
            writer.write(request(path))
            await query.until(taken, 1)
            for _ in range(4):
                writer.write(request("/healthz"))
                await query.metric(taken)  # so that they come one by one
        async with asyncio.timeout(5):  # sooner than a heartbeat would find it out
            if kind == "stream":
                await query.until(taken, 0)
            while (await query.get(f"{wait}1")).json()["error"] == "overloaded":
                await asyncio.sleep(0.02)


async def test_what_is_sent_during_a_wait_is_answered_after_it(query: QueryService, room: str) -> None:
    """In order, and whole, of whatever size it is."""
    async with connected(query) as (reader, writer):
        waits = await query.metric("runroom_query_min_seq_waits_total")
        many = 1000
        writer.write(request("/healthz") + request(f"/v1/runs?room_id={room}&min_seq=9&wait=700"))
        await health(reader)
        await query.until("runroom_query_min_seq_waits_total", waits + 1)
        sent = request("/healthz") * many + request("/nothing")
        for at in range(0, len(sent), 1009):
            writer.write(sent[at : at + 1009])
            await asyncio.sleep(0)
        status, *headers = await head(reader)
        assert status.startswith("HTTP/1.1 503 ")
        (length,) = [int(header.split(": ")[1]) for header in headers if header.startswith("content-length")]
        assert b"projection_behind" in await reader.readexactly(length)
        for _ in range(many):
            assert await health(reader) == b'{"status":"ok"}'
        assert (await head(reader))[0].startswith("HTTP/1.1 404 ")
