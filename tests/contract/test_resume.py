"""From any position a client gets exactly what it has not seen: each event once, in order, without a hole."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractAsyncContextManager

import pytest

from . import expect
from .client import Workspace
from .sse import Control, Event, RoomStream


async def write(workspace: Workspace, room: str, count: int) -> None:
    """Write `count` events at once, and wait until reads reflect them."""
    answers = await asyncio.gather(*(workspace.create(room) for _ in range(count)))
    await workspace.settle(room, max(answer["stream_seq"] for answer in answers))


def resumed(workspace: Workspace, room: str, cursor: int, *, header: bool) -> AbstractAsyncContextManager[RoomStream]:
    """Open the stream after the cursor, given as browsers do or as everybody else does."""
    return workspace.stream(room, last_event_id=cursor) if header else workspace.stream(room, from_seq=cursor)


async def test_every_cursor_gives_exactly_the_missing_events(workspace: Workspace, room: str) -> None:
    count = 12
    await write(workspace, room, count)
    whole = [event.line for event in await workspace.feed(room, count)]

    async def check(cursor: int, *, header: bool) -> None:
        async with resumed(workspace, room, cursor, header=header) as stream:
            history, position = await stream.caught_up()
        assert [event.line for event in history] == whole[cursor:]
        assert position == count

    await asyncio.gather(*(check(n, header=header) for n in range(count + 1) for header in (True, False)))


@pytest.mark.parametrize(
    ("last_event_id", "from_seq", "first"),
    [(3, 0, 4), (1, 4, 2), (0, 4, 1), (2, "latest", 3), (4, 99, 5), (None, None, 1)],
)
async def test_the_last_event_id_wins(
    workspace: Workspace, room: str, last_event_id: int | None, from_seq: int | str | None, first: int
) -> None:
    await write(workspace, room, 5)

    async with workspace.stream(room, last_event_id=last_event_id, from_seq=from_seq) as stream:
        history, position = await stream.caught_up()

    expect.gapless(history, first)
    assert (history[-1].seq, position) == (5, 5)


async def test_latest_is_the_current_head(workspace: Workspace, room: str) -> None:
    await write(workspace, room, 4)

    async with workspace.stream(room, from_seq="latest") as stream:
        assert await stream.caught_up() == ([], 4)
        created = await workspace.create(room)
        event = await stream.event()

    assert (event.seq, event.event_id) == (5, created["event_id"])


async def test_latest_of_a_room_nobody_wrote_to(workspace: Workspace, room: str) -> None:
    async with workspace.stream(room, from_seq="latest") as stream:
        assert await stream.caught_up() == ([], 0)
        await workspace.create(room)
        assert (await stream.event()).seq == 1


@pytest.mark.parametrize("count", [0, 3])
async def test_a_cursor_ahead_is_reset_to_the_head(workspace: Workspace, room: str, count: int) -> None:
    async def check(own_room: str, ahead: int, *, header: bool) -> None:
        if count:
            await write(workspace, own_room, count)
        async with resumed(workspace, own_room, count + ahead, header=header) as stream:
            reset = await stream.control()
            caught_up = await stream.control()
            created = await workspace.create(own_room)
            event = await stream.frame()
        assert reset.name == "reset"
        assert reset.data.keys() == {"reason", "first_seq", "head_seq"}
        assert (reset.data["reason"], reset.data["head_seq"]) == ("cursor_ahead", count)
        assert reset.data["first_seq"] in ({1} if count else {0, 1})
        assert caught_up == Control("caught-up", {"stream_seq": count})
        assert isinstance(event, Event)
        assert (event.seq, event.event_id) == (count + 1, created["event_id"])

    # At once, for a deployment may wait a little for a position that was perhaps only just written.
    cases = [(ahead, header) for ahead in (1, 1000, 10**12) for header in (True, False)]
    await asyncio.gather(*(check(f"{room}-{n}", a, header=header) for n, (a, header) in enumerate(cases)))


async def test_a_cursor_no_room_reaches_is_reset_or_refused(workspace: Workspace, room: str) -> None:
    async def check(seq: str) -> None:
        async with workspace.asked_stream(room, {"from_seq": seq}) as stream:
            if stream.response.status_code != 200:
                await stream.response.aread()
                expect.problem(stream.response, 400, "invalid_cursor")
            else:
                reset = await stream.control()
                assert (reset.name, reset.data["reason"], reset.data["head_seq"]) == ("reset", "cursor_ahead", 0)

    beyond = [str(2**53 + 1), str(2**63 - 1), str(2**63), "9" * 40, "9" * 5000]
    await asyncio.gather(*(check(seq) for seq in beyond))


@pytest.mark.parametrize("seq", ["", "+1", "01"])
async def test_a_cursor_written_oddly_is_read_or_refused(workspace: Workspace, room: str, seq: str) -> None:
    await write(workspace, room, 2)

    for params, headers in (({"from_seq": seq}, {}), ({}, {"last-event-id": seq})):
        async with workspace.asked_stream(room, params, headers) as stream:
            if stream.response.status_code != 200:
                await stream.response.aread()
                expect.problem(stream.response, 400, "invalid_cursor")
            else:
                history, _ = await stream.caught_up()
                expect.gapless(history, 2 if seq else 1)


async def test_the_position_a_command_answered_is_never_ahead(workspace: Workspace, room: str) -> None:
    """A client that writes and then watches from its own position gets what comes next and no reset."""
    for _ in range(20):
        answer = await workspace.create(room)
        async with workspace.stream(room, from_seq=answer["stream_seq"]) as stream:
            following = await workspace.create(room)
            event = await stream.event()
        assert (event.seq, event.event_id) == (answer["stream_seq"] + 1, following["event_id"])


async def test_resuming_over_and_over_while_events_are_written(workspace: Workspace, room: str) -> None:
    last, rng = 150, random.Random(1)
    seen: list[Event] = []

    async def write_all() -> None:
        for _ in range(last // 5):
            await asyncio.gather(*(workspace.create(room) for _ in range(5)))

    async def view() -> None:
        cursor = 0
        while cursor < last:
            async with workspace.stream(room, last_event_id=cursor) as stream:
                for _ in range(rng.randint(0, 12)):
                    if cursor == last:
                        return
                    event = await stream.event()
                    seen.append(event)
                    cursor = event.seq

    async with asyncio.TaskGroup() as group:
        group.create_task(write_all())
        group.create_task(view())

    expect.gapless(seen)
    assert len(seen) == last
    assert [event.line for event in seen] == [event.line for event in await workspace.feed(room, last)]


async def test_caught_up_stands_where_history_ends_while_events_are_written(workspace: Workspace, room: str) -> None:
    async def view() -> None:
        async with workspace.stream(room) as stream:
            history, position = await stream.caught_up()
            live = await stream.until(60) if position < 60 else []
        assert position == (history[-1].seq if history else 0)
        expect.gapless([*history, *live])

    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(view())
            await asyncio.gather(*(workspace.create(room) for _ in range(5)))


async def test_a_long_history_and_a_viewer_that_did_not_read_for_long(workspace: Workspace, room: str) -> None:
    """Longer than any page of history and any queue: nothing is lost to those who are slow or late."""
    count = 400
    goal = "g" * 4000
    gate = asyncio.Semaphore(32)

    async def create() -> None:
        async with gate:
            await workspace.create(room, goal=goal)

    async with workspace.stream(room) as slow:
        await slow.caught_up()
        await asyncio.gather(*(create() for _ in range(count)))
        await workspace.settle(room, count)
        async with workspace.stream(room) as late:
            history, position = await late.caught_up()
        caught = await slow.until(count)

    assert position == count
    assert len(history) == len(caught) == count
    expect.gapless(history)
    expect.gapless(caught)
    assert [event.line for event in caught] == [event.line for event in history]
