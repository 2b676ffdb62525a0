"""A room stream gives each event once, in order, without holes, wherever history and live meet."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.contracts.events import encode_event
from tests.contract.sse import Comment, Control, RoomStream

from .service import QueryService
from .world import Projections, Stream, event, events


async def sequence(stream: RoomStream, count: int) -> list[int]:
    return [said.seq for said in await stream.events(count)]


async def test_history_then_caught_up_then_live(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    said = events(room, 1, 3)
    await stream.publish(said)
    await projections.apply_feed(said)
    async with query.stream(room) as viewer:
        history, position = await viewer.caught_up()
        assert [one.seq for one in history] == [1, 2, 3]
        assert [one.line.encode() for one in history] == [encode_event(one) for one in said]
        assert position == 3
        await stream.publish([event(room, 4)])
        assert (await viewer.event()).seq == 4
        assert viewer.lines[0].startswith("retry: ")
    headers = viewer.response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers


async def test_without_any_projector(query: QueryService, stream: Stream, room: str) -> None:
    await stream.publish(events(room, 1, 300))
    async with query.stream(room) as viewer, query.stream(room, 299) as late:
        assert await sequence(viewer, 300) == list(range(1, 301))
        assert await sequence(late, 1) == [300]
        await stream.publish(events(room, 301, 303))
        assert await sequence(viewer, 3) == [301, 302, 303]
        assert await sequence(late, 3) == [301, 302, 303]


async def test_history_from_the_projection_and_on_from_the_stream(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    await stream.publish(events(room, 1, 40))
    # A wrong hint costs a search, not an event.
    await projections.apply_feed(events(room, 1, 20), position=10_000)
    for cursor in (0, 7, 19, 20, 21, 39):
        async with query.stream(room, cursor) as viewer:
            history, position = await viewer.caught_up()
            assert [one.seq for one in history] == list(range(cursor + 1, 41))
            assert position == 40
