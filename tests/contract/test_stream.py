"""A room stream is a plain event stream any browser reads: the frames, the order and the headers of the contract."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from . import expect
from .client import Workspace
from .sse import Comment, Event


async def test_the_lines_of_a_stream(workspace: Workspace, room: str) -> None:
    """Line by line, since this is what existing clients parse."""
    run = await workspace.running(room)
    await workspace.step(run["run_id"], "think")
    await workspace.settle(room, 3)

    async with workspace.stream(room) as stream:
        await stream.caught_up()

    lines = [line for line in stream.lines if not line.startswith(":")]
    assert re.fullmatch(r"retry: [1-9]\d*", lines[0]), "the first line tells when to reconnect"
    *events, last = "\n".join(lines[1:]).strip("\n").split("\n\n")
    assert len(events) == 3
    for seq, frame in enumerate(events, start=1):
        id_line, data_line = frame.split("\n")
        assert id_line == f"id: {seq}"
        assert data_line.startswith("data: {")
        assert json.loads(data_line.removeprefix("data: "))["stream_seq"] == seq
    assert last.split("\n")[0] == "event: caught-up"
    assert json.loads(last.split("\n")[1].removeprefix("data: ")) == {"stream_seq": 3}


@pytest.mark.parametrize("encoding", ["identity", "gzip", "gzip, deflate, br, zstd", "*"])
async def test_the_headers_of_a_stream(workspace: Workspace, room: str, encoding: str) -> None:
    await workspace.create(room, goal="g" * 5000)
    await workspace.settle(room, 1)

    async with workspace.stream(room, headers={"accept-encoding": encoding}) as stream:
        headers = stream.response.headers
        await stream.caught_up()

    assert headers["content-type"].replace(" ", "").lower() == "text/event-stream;charset=utf-8"
    assert {part.strip() for part in headers["cache-control"].split(",")} == {"no-cache", "no-transform"}
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    assert "content-length" not in headers


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/*", "application/json, text/event-stream;q=0.9"])
async def test_a_stream_opens_for_whoever_takes_event_streams(workspace: Workspace, room: str, accept: str) -> None:
    async with workspace.stream(room, headers={"accept": accept}) as stream:
        assert await stream.caught_up() == ([], 0)


async def test_history_comes_first_then_caught_up_then_what_happens(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    await workspace.settle(room, 2)

    async with workspace.stream(room) as stream:
        history, position = await stream.caught_up()
        assert [event.type for event in history] == ["run.created", "run.started"]
        assert position == 2
        for kind in ("a", "b", "c"):
            answer = await workspace.step(run["run_id"], kind)
            frame = await stream.frame()
            assert isinstance(frame, Event)
            assert (frame.seq, frame.event_id) == (answer["stream_seq"], answer["event_id"])
            assert frame.envelope["data"]["kind"] == kind
        done = await workspace.complete(run["run_id"])
        last = await stream.frame()

    assert isinstance(last, Event)
    assert (last.type, last.event_id) == ("run.completed", done["event_id"])
    expect.envelope(last, workspace.id, room)


async def test_a_room_nobody_wrote_to_is_an_open_empty_stream(workspace: Workspace, room: str) -> None:
    async with workspace.stream(room) as stream:
        assert await stream.caught_up() == ([], 0)
        created = await workspace.create(room)
        event = await stream.frame()

    assert isinstance(event, Event)
    assert (event.seq, event.event_id) == (1, created["event_id"])


async def test_an_event_has_the_same_bytes_for_everybody_live_or_later(workspace: Workspace, room: str) -> None:
    async with workspace.stream(room) as early, workspace.stream(room, from_seq="latest") as latest:
        await early.caught_up()
        await latest.caught_up()
        run = await workspace.running(room, input={"z": 1, "a": [1.0, 2, "é", "\u2028"]}, tags=["t"])
        await workspace.fail(run["run_id"], error={"b": 1, "a": 2})
        live = await early.events(3)
        also_live = await latest.events(3)
    await workspace.settle(room, 3)

    history = await workspace.feed(room, 3)

    assert [event.line for event in live] == [event.line for event in also_live] == [event.line for event in history]


async def test_many_viewers_see_the_same(workspace: Workspace, room: str) -> None:
    """Viewers come before, during and after the writing, and see every event once, in order."""
    last = 45

    async def view(start: asyncio.Event) -> list[str]:
        await start.wait()
        events = await workspace.feed(room, last)
        expect.gapless(events)
        return [event.line for event in events]

    starts = [asyncio.Event() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        views = [group.create_task(view(start)) for start in starts for _ in range(6)]
        starts[0].set()
        await asyncio.gather(*(workspace.create(room) for _ in range(20)))
        starts[1].set()
        await asyncio.gather(*(workspace.create(room) for _ in range(25)))
        starts[2].set()

    assert len({tuple(view.result()) for view in views}) == 1


async def test_a_viewer_sees_only_its_room(workspace: Workspace, room: str) -> None:
    other = f"{room}-other"
    async with workspace.stream(room) as stream, workspace.stream(other) as other_stream:
        await workspace.create(other)
        mine = await workspace.create(room)
        theirs = await workspace.create(other)
        assert (await stream.event()).event_id == mine["event_id"]
        assert [event.seq for event in await other_stream.events(2)] == [1, 2]
        assert (await workspace.create(room))["event_id"] == (await stream.event()).event_id

    assert theirs["stream_seq"] == 2


async def test_viewers_that_leave_do_not_disturb_those_that_stay(workspace: Workspace, room: str) -> None:
    async with workspace.stream(room) as stays:
        await stays.caught_up()
        for seq in range(1, 6):
            async with workspace.stream(room) as leaves:
                await leaves.caught_up()
            await workspace.create(room)
            assert (await stays.event()).seq == seq


async def test_an_idle_stream_sends_a_comment_within_fifteen_seconds(workspace: Workspace, room: str) -> None:
    async with workspace.stream(room) as stream:
        await stream.caught_up()
        began = asyncio.get_running_loop().time()
        heartbeat = await stream.item()
        waited = asyncio.get_running_loop().time() - began
        created = await workspace.create(room)
        event = await stream.event()

    assert isinstance(heartbeat, Comment)
    assert waited <= 16, "fifteen seconds, and one for a busy machine"
    assert event.event_id == created["event_id"]
