"""Clients of every kind cost a bounded amount, and nobody pays for another: slow ones, stalled ones, too many."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contract.sse import Comment, Control, Event, RoomStream, StreamEndedError

from .service import QueryService, running
from .world import Projections, Stream, event, events, fresh

STALL_SECONDS = 2.5
MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def query(variables: dict[str, str], stream: Stream) -> AsyncIterator[QueryService]:
    """Small limits, so that they are met."""
    limits = {
        "HEARTBEAT_SECONDS": "0.3",
        "STALL_SECONDS": str(STALL_SECONDS),
        "RING_EVENTS": "16",
        "RING_BYTES": "65536",
        "STREAM_LIMIT_ROOM": "150",
        "STREAM_LIMIT_PROCESS": "170",
        "SHUTDOWN_GRACE_SECONDS": "2",
    }
    async with running(variables | limits) as query:
        yield query


Raw = Callable[[QueryService, str], Awaitable[socket.socket]]


@pytest.fixture
def raw() -> Iterator[Raw]:
    """Connects, asks for the room's stream and reads nothing, with a small buffer of its own."""
    with contextlib.ExitStack() as clients:

        async def ask(query: QueryService, room: str) -> socket.socket:
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # As on a network. Loopback's segments are larger than the buffer, and the kernel would send none: it waits
            # for room for a whole one, and takes a client that reads a little for one that reads nothing.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", query.port))
            request = f"GET /v1/streams/rooms/{room}?from_seq=0 HTTP/1.1\r\nHost: q\r\n\r\n"
            await loop.sock_sendall(client, request.encode())
            return client

        yield ask


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def test_a_heartbeat_when_nothing_happens(query: QueryService, room: str) -> None:
    async with query.stream(room) as viewer:
        await viewer.caught_up()
        started = time.monotonic()
        assert [isinstance(await viewer.item(), Comment) for _ in range(4)] == [True] * 4
        assert 1.0 < time.monotonic() - started < 3


async def test_a_heartbeat_when_a_lot_happens(query: QueryService, stream: Stream, room: str) -> None:
    async def talk() -> None:
        for said in events(room, 1, 40):
            await stream.publish([said])
            await asyncio.sleep(0.05)

    async with query.stream(room) as viewer:
        await viewer.caught_up()
        talking = asyncio.create_task(talk())
        beats, seq = 0, 0
        while seq < 40:
            item = await viewer.item()
            if isinstance(item, Comment):
                beats += 1
            else:
                assert isinstance(item, Event)
                seq = item.seq
        await talking
        assert beats >= 4


async def test_a_slow_reader_falls_behind_the_ring_and_loses_nothing(
    query: QueryService, projections: Projections, stream: Stream, room: str, raw: Raw
) -> None:
    """It reads a little now and then, which is not stalled."""
    last = 400
    said = events(room, 1, last, size=4000)
    behind = await query.metric("runroom_query_catch_ups_total")
    slow = await raw(query, room)
    loop = asyncio.get_running_loop()
    received = b""
    is_over = asyncio.Event()

    async def take(most: int) -> None:
        nonlocal received
        piece = await asyncio.wait_for(loop.sock_recv(slow, most), 10)
        assert piece, "the connection was ended"
        received += piece

    async def sip() -> None:
        # Often enough for the kernel, which tells the other end of room only when half of its buffer is free again.
        while not is_over.is_set():
            await take(2048)
            await asyncio.sleep(0.1)

    async with query.stream(room) as fast:
        await fast.caught_up()
        sipping = asyncio.create_task(sip())
        publishing = asyncio.create_task(stream.publish(said))
        quickest = [one.seq for one in await fast.until(last)]
        await publishing
        await projections.apply_feed(said[: last // 2])
        assert quickest == list(range(1, last + 1))
        # The ring has moved on; the slow one has read next to nothing since its headers.
        is_over.set()
        await sipping
        while b"id: %d\n" % last not in received:
            await take(65536)
            await asyncio.sleep(0.002)
    slow.close()
    seqs = [int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")]
    assert seqs == list(range(1, last + 1))
    assert await query.metric("runroom_query_catch_ups_total") > behind


async def test_who_reads_steadily_is_not_stalled_however_long_a_chunk_takes(
    query: QueryService, stream: Stream, room: str, raw: Raw
) -> None:
    dropped = await query.metric("runroom_query_streams_stalled_total")
    slow = await raw(query, room)
    await query.until("runroom_query_streams_open", 1)
    await stream.publish([event(room, 1, size=300_000), event(room, 2)])
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    received = b""
    while b"id: 2\n" not in received:
        piece = await asyncio.wait_for(loop.sock_recv(slow, 4096), 10)
        assert piece, "the connection was ended"
        received += piece
        await asyncio.sleep(0.08)
    assert time.monotonic() - started > STALL_SECONDS + 2
    assert await query.metric("runroom_query_streams_stalled_total") == dropped


async def test_what_is_larger_than_a_ring_comes_to_everybody_in_order(
    query: QueryService, stream: Stream, room: str
) -> None:
    """Those who are up to date are handed it, and others read it from history."""
    said = [event(room, seq, size=200_000 * (seq % 2)) for seq in range(1, 21)]
    async with query.stream(room) as first, query.stream(room) as second:
        await first.caught_up()
        await second.caught_up()
        reads = await query.metric('runroom_query_history_reads_total{source="stream"}')
        await stream.publish(said[:1])
        assert (await first.event()).seq == (await second.event()).seq == 1
        assert await query.metric('runroom_query_history_reads_total{source="stream"}') == reads
        publishing = asyncio.create_task(stream.publish(said[1:]))
        async with query.stream(room) as late:
            for viewer, expected in ((first, range(2, 21)), (late, range(1, 21)), (second, range(2, 21))):
                assert [one.seq for one in await viewer.until(20)] == list(expected)
        await publishing


async def test_rooms_keep_nothing_that_is_larger_than_a_ring(query: QueryService, stream: Stream) -> None:
    before = resident_kib(query.pid)
    async with contextlib.AsyncExitStack() as open_streams:
        for room in [fresh("room") for _ in range(20)]:
            viewer = await open_streams.enter_async_context(query.stream(room))
            await viewer.caught_up()
            await stream.publish([event(room, 1, size=3_000_000)])
            assert (await viewer.event()).seq == 1
        # Each had 6 MB, and a ring has 64 KiB.
        async with asyncio.timeout(5):
            while resident_kib(query.pid) - before > 40_000:
                await asyncio.sleep(0.05)


async def test_who_reads_nothing_is_dropped(query: QueryService, projections: Projections, room: str, raw: Raw) -> None:
    await projections.apply_feed(events(room, 1, 3000, size=3000))
    before = resident_kib(query.pid)
    stalled = [await raw(query, room) for _ in range(100)]
    started = time.monotonic()
    await query.until("runroom_query_streams_open", 100)
    # Ten megabytes of history wait for each of them; what is held is a buffer of some 100 KB.
    assert resident_kib(query.pid) - before < 100 * 400
    await query.until("runroom_query_streams_open", 0)
    assert time.monotonic() - started < STALL_SECONDS + 4
    await query.until("runroom_query_rooms_watched", 0)
    # The connections are gone, not only their responses.
    async with asyncio.timeout(5):
        while established(query.port) > 5:
            await asyncio.sleep(0.1)
    for client in stalled:
        client.close()
    async with query.stream(room, 2999) as viewer:
        assert (await viewer.event()).seq == 3000


async def test_what_stalled_streams_hold_is_within_the_backlog(
    variables: dict[str, str], projections: Projections, stream: Stream, raw: Raw
) -> None:
    """Whoever has kept the process waiting longest goes, so that others get theirs."""
    rooms = [fresh("room") for _ in range(16)]
    for room in rooms:
        await projections.apply_feed([event(room, 1, size=4 * MIB)])
    async with running(variables | {"BACKLOG_MEGABYTES": "8"}) as query:
        before = resident_kib(query.pid)
        stalled = [await raw(query, room) for room in rooms]
        async with asyncio.timeout(20):
            while await query.metric("runroom_http_backlog_drops_total") < len(rooms) - 2:
                assert await query.metric("runroom_http_backlog_bytes") < 13 * MIB
                await asyncio.sleep(0.05)
        # 64 MB, if each had its own; pages that were read are kept as well, up to 16 MiB.
        assert resident_kib(query.pid) - before < 45_000
        async with query.stream(rooms[0]) as viewer:
            assert (await viewer.event()).seq == 1
            await viewer.caught_up()
            await stream.publish([event(rooms[0], 2, size=4 * MIB), event(rooms[0], 3)])
            assert [one.seq for one in await viewer.until(3)] == [2, 3]
        for client in stalled:
            client.close()
        await query.until("runroom_http_backlog_bytes", 0)


async def test_what_many_have_yet_to_take_is_there_once(
    variables: dict[str, str], stream: Stream, room: str, raw: Raw
) -> None:
    said = [event(room, 1, size=4 * MIB)]
    async with running(variables | {"BACKLOG_MEGABYTES": "8"}) as query, query.stream(room) as viewer:
        await viewer.caught_up()
        stalled = [await raw(query, room) for _ in range(20)]
        await query.until("runroom_query_streams_open", 21)
        await stream.publish(said)
        assert (await viewer.event()).seq == 1
        async with asyncio.timeout(10):
            while await query.metric("runroom_query_frames_sent_total") < 21:
                await asyncio.sleep(0.05)
        assert 4 * MIB < await query.metric("runroom_http_backlog_bytes") < 5 * MIB
        assert (await query.get("/v1/runs")).status_code == 200
        assert await query.metric("runroom_query_streams_open") == 21
        loop = asyncio.get_running_loop()
        received = b""
        async with asyncio.timeout(20):
            while b'xxx"}}\n\n' not in received[-64:]:
                received += await loop.sock_recv(stalled[0], MIB)
        assert received.count(b"id: 1\n") == 1
        for client in stalled:
            client.close()
        await query.until("runroom_http_backlog_bytes", 0)


async def ended(viewer: RoomStream) -> None:
    """Waits for the end of the body; a broken connection would be another exception."""
    with suppress(StreamEndedError):
        while True:
            await viewer.line()


def established(port: int) -> int:
    """Connections the service still has on its side, stuck ones that wait to send included."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    gone = {"06", "07", "0A"}  # TIME_WAIT, CLOSE, LISTEN
    return sum(
        fields[1].endswith(f":{port:04X}") and fields[3] not in gone for fields in (line.split() for line in lines)
    )


async def test_who_leaves_is_forgotten_at_once(query: QueryService, room: str, raw: Raw) -> None:
    clients = [await raw(query, room) for _ in range(50)]
    await query.until("runroom_query_streams_open", 50)
    for client in clients:
        client.close()
    started = time.monotonic()
    await query.until("runroom_query_streams_open", 0)
    assert time.monotonic() - started < 2


async def test_one_stream_too_many(query: QueryService, room: str, raw: Raw) -> None:
    clients = [await raw(query, room) for _ in range(150)]
    await query.until("runroom_query_streams_open", 150)

    async def refused(room: str, limit: str) -> None:
        async with query.stream(room) as viewer:
            assert viewer.response.status_code == 200
            assert viewer.response.headers["content-type"].startswith("text/event-stream")
            assert await viewer.control() == Control("busy", {"limit": limit})
            assert "retry: 5000" in viewer.lines
            with pytest.raises(StreamEndedError):
                await viewer.line()

    await refused(room, "room")
    clients += [await raw(query, room + "_b") for _ in range(20)]
    await query.until("runroom_query_streams_open", 170)
    await refused(room + "_c", "process")
    for client in clients:
        client.close()
    await query.until("runroom_query_streams_open", 0)
    async with query.stream(room) as viewer:
        await viewer.caught_up()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_streams_end_cleanly_when_the_service_stops(
    variables: dict[str, str], projections: Projections, stream: Stream, room: str, number: int, raw: Raw
) -> None:
    await projections.apply_feed(events(room, 1, 2000, size=3000))
    async with running(variables | {"SHUTDOWN_GRACE_SECONDS": "2"}) as query:
        ends: list[float] = []
        watching = asyncio.Semaphore(0)

        async def view() -> None:
            async with query.stream(room, 2000) as viewer:
                await viewer.caught_up()
                watching.release()
                await ended(viewer)
            ends.append(time.monotonic())

        viewers = [asyncio.create_task(view()) for _ in range(60)]
        stuck = await raw(query, room)  # will not take its end
        await query.until("runroom_query_streams_open", 61)
        for _ in viewers:
            await watching.acquire()
        started = time.monotonic()
        assert await query.stop(number) == 0
        assert time.monotonic() - started < 6
        await asyncio.gather(*viewers)
        stuck.close()
        # Not all at once.
        assert max(ends) - min(ends) > 0.8


async def test_who_comes_while_the_service_stops_is_sent_away_softly(variables: dict[str, str], room: str) -> None:
    async with running(variables | {"SHUTDOWN_GRACE_SECONDS": "3"}) as query, query.stream(room) as viewer:
        await viewer.caught_up()
        async with query.stream(room) as other:
            await other.caught_up()
            stopping = asyncio.create_task(query.stop())
            async with asyncio.timeout(5):
                while (await query.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.05)
            async with query.stream(room) as late:
                assert (await late.control()).name == "busy"
            assert await stopping == 0
