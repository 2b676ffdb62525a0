"""B8: one event to 1,000 and 9,000 clients of one room, and 100 events a second to 1,000.

The time counts from the request that brings the event: with Runroom it is committed and streamed first, nchan only
passes it on. ``fan-out`` is the part from the first client to the last.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import asyncpg

from bench.harness import Contestant, Figures, Measure, Role, Scenario, Setting, Target
from bench.load.http import connect
from bench.nchan import Nchan, find_nchan
from bench.process import cpu_seconds
from bench.publishers import ChannelPublisher, CommandPublisher, Publisher, publish_paced
from bench.stack import Stack, running_stack
from bench.viewers import Plan, Viewers, open_viewers

_FEW, _MANY, _RATE = 1000, 9000, 100.0
_PAUSE_SECONDS = 0.5
"""Before an event: longer than the service rests after one, and clients of the turn before are gone."""


class _Room(NamedTuple):
    """What clients are connected to, what brings events there, and the process that passes them on."""

    viewers: Viewers
    publisher: Publisher
    pid: int


_Open = Callable[[int], AbstractAsyncContextManager[_Room]]
"""A new room with so many clients in place."""


def _one_event(open_room: _Open, clients: int) -> Measure:
    async def measure(seconds: float) -> Figures:
        to_first: list[float] = []
        to_last: list[float] = []
        fan_out: list[float] = []
        async with open_room(clients) as room:
            until = time.monotonic() + seconds
            while time.monotonic() < until or not to_last:
                await asyncio.sleep(_PAUSE_SECONDS)
                sent = time.monotonic()
                seq = await room.publisher.publish()
                seen = await room.viewers.saw(seq)
                to_first.append(seen.first[seq] - sent)
                to_last.append(seen.last[seq] - sent)
                fan_out.append(seen.last[seq] - seen.first[seq])
        return {
            "ms to first": 1000 * statistics.median(to_first),
            "ms to last": 1000 * statistics.median(to_last),
            "ms fan-out": 1000 * statistics.median(fan_out),
        }

    return measure


def _many_events(open_room: _Open, clients: int) -> Measure:
    async def measure(seconds: float) -> Figures:
        async with open_room(clients) as room:
            await asyncio.sleep(_PAUSE_SECONDS)
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, stop.set)
            before, started = cpu_seconds(room.pid), time.monotonic()
            due = await publish_paced(room.publisher, _RATE, stop)
            seen = await room.viewers.saw(max(due))
            cpu = cpu_seconds(room.pid) - before
        assert seen.last.keys() == due.keys(), f"{len(due)} events, {len(seen.last)} seen"
        late = sorted(seen.last[seq] - at for seq, at in due.items())
        deliveries = len(due) * clients
        return {
            "deliveries/s": deliveries / (max(seen.last.values()) - started),
            "deliveries/s/core": deliveries / max(cpu, 0.01),
            "p50 ms to last": 1000 * late[len(late) // 2],
            "p99 ms to last": 1000 * late[len(late) * 99 // 100],
        }

    return measure


@contextlib.asynccontextmanager
async def _runroom(stack: Stack) -> AsyncGenerator[_Open, None]:
    command, query = await stack.service("command"), await stack.service("query")
    connection = await connect(command.port)
    numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def open_room(clients: int) -> AsyncGenerator[_Room, None]:
        room_id = f"fan_out_{next(numbers)}"
        plan = Plan(port=query.port, paths=[f"/v1/streams/rooms/{room_id}"], clients=clients)
        assert query.pid is not None
        async with open_viewers(plan) as viewers:
            await viewers.connect()
            yield _Room(viewers, CommandPublisher(connection, room_id), query.pid)

    yield open_room
    connection.close()


@contextlib.asynccontextmanager
async def _nchan(nchan: Nchan, envelope: bytes) -> AsyncGenerator[_Open, None]:
    numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def open_room(clients: int) -> AsyncGenerator[_Room, None]:
        channel = f"fan_out_{next(numbers)}"
        plan = Plan(port=nchan.port, paths=[f"/subscribe/{channel}"], clients=clients, ready=": hi\n")
        async with open_viewers(plan) as viewers:
            await viewers.connect()
            connection = await connect(nchan.port)
            yield _Room(viewers, ChannelPublisher(connection, channel, envelope), nchan.worker)
            connection.close()

    await asyncio.to_thread(nchan.start)
    try:
        yield open_room
    finally:
        await asyncio.to_thread(nchan.stop)


async def _envelope(stack: Stack, open_room: _Open) -> bytes:
    """The bytes of an event as Runroom stores and sends it."""
    async with open_room(1) as room:
        await room.publisher.publish()
    connection = await asyncpg.connect(stack.store_dsn)
    try:
        return await connection.fetchval("select envelope from events")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    few, many = round(_FEW * setting.size), round(_MANY * setting.size)

    def contestants(name: str, role: Role, open_room: _Open | None, why: str = "") -> list[Contestant]:
        measures = {
            "1,000": open_room and _one_event(open_room, few),
            "9,000": open_room and _one_event(open_room, many),
            "100/s": open_room and _many_events(open_room, few),
        }
        return [Contestant(f"{name}, {what}", role, measure, why) for what, measure in measures.items()]

    async with contextlib.AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running_stack(setting.folder))
        ours = await opened.enter_async_context(_runroom(stack))
        theirs = None
        if programs := find_nchan():
            nchan = Nchan(setting.folder / "nchan", programs)
            theirs = await opened.enter_async_context(_nchan(nchan, await _envelope(stack, ours)))
        yield contestants("Runroom", "runroom", ours) + contestants(
            "nchan", "peer", theirs, "" if theirs else "not installed: make bench-peers"
        )


SCENARIO = Scenario(
    "B8",
    "one event to 1,000 and 9,000 clients of a room; 100 events/s to 1,000",
    _open,
    (
        Target("ms to last", "Runroom, 1,000", "at most", 2.0, "nchan, 1,000"),
        Target("ms to last", "Runroom, 9,000", "at most", 2.0, "nchan, 9,000"),
        Target("deliveries/s/core", "Runroom, 100/s", "at least", 300_000),
    ),
)
