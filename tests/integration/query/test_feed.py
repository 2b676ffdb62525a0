"""A room stream gives each event once, in order, without holes, wherever history and live meet."""

from __future__ import annotations

import asyncio

import pytest

from shared.contracts.events import encode_event
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_STREAM_SEQ, room_subject
from tests.contract.sse import Control, RoomStream

from .service import WORKSPACE, QueryService
from .test_reads import problem
from .world import Projections, Stream, event, events, headers


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


async def test_messages_that_are_no_events_are_passed_over(query: QueryService, stream: Stream, room: str) -> None:
    await stream.publish(events(room, 1, 3))
    async with query.stream(room) as viewer:
        assert await sequence(viewer, 3) == [1, 2, 3]
        for position in (None, "abc", "\u00b2", "9" * 5000):
            headers = None if position is None else {HEADER_STREAM_SEQ: position}
            await stream.client.publish(room_subject(WORKSPACE, room), b"garbage", headers=headers)
        await stream.publish([event(room, 4)])
        assert await sequence(viewer, 1) == [4]
        # Long enough for the tails of all rooms to be asked for.
        await asyncio.sleep(1.5)
        await stream.publish([event(room, 5)])
        assert await sequence(viewer, 1) == [5]
    async with query.stream(room, 1) as late:
        assert await sequence(late, 4) == [2, 3, 4, 5]


async def test_what_is_stored_with_another_rooms_event_is_passed_over(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    said = events(room, 1, 4)
    foreign = event("elsewhere", 2, workspace_id="ws_other")
    await stream.publish(said[:1])
    headers = {HEADER_STREAM_SEQ: "2", HEADER_EVENT_ID: foreign.event_id}
    await stream.client.request(room_subject(WORKSPACE, room), encode_event(foreign), timeout=5, headers=headers)
    await stream.publish(said[2:])
    async with query.stream(room) as viewer:
        assert await sequence(viewer, 1) == [1]
        await projections.apply_feed(said[:2])
        assert [one.line.encode() for one in await viewer.events(3)] == [encode_event(one) for one in said[1:]]


FRAMES = b'{"event_type":"run.created"}%b%bid: 777777%bdata: {"forged":"frame"}%b%bevent: reset%bdata: {"reason":"x"}'


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
async def test_an_event_of_several_lines_makes_no_frames(
    query: QueryService, projections: Projections, stream: Stream, room: str, line_break: bytes
) -> None:
    """Neither live nor from the stream, nor from the projection, which only counts it as applied."""
    said = events(room, 1, 4)
    forged = FRAMES.replace(b"%b", line_break)
    dropped = await query.metric("runroom_query_misplaced_total")
    await stream.publish(said[:1])
    async with query.stream(room) as live:
        assert await sequence(live, 1) == [1]
        headers = {HEADER_STREAM_SEQ: "2", HEADER_EVENT_ID: room}
        await stream.client.request(room_subject(WORKSPACE, room), forged, timeout=5, headers=headers)
        await stream.publish(said[2:])
        async with projections.connection.transaction():
            await projections.apply_feed(said)
            await projections.connection.execute(
                "update proj_room_events set envelope = $1 where room_id = $2 and stream_seq = 2", forged, room
            )
        async with query.stream(room) as late:
            for viewer in (live, late):
                if viewer is late:
                    assert await sequence(late, 1) == [1]
                while (control := await viewer.control()).name == "caught-up":
                    pass
                assert control.data == {"reason": "history_trimmed", "first_seq": 3, "head_seq": 4}
                assert await sequence(viewer, 2) == [3, 4]
                assert not any("forged" in line or "777777" in line for line in viewer.lines)
    assert await query.metric("runroom_query_misplaced_total") > dropped


async def test_numbers_that_no_event_has_are_not_said(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    await stream.publish(events(room, 1, 2))
    await projections.apply_feed(events(room, 1, 2))
    await projections.connection.execute(
        "update proj_rooms set applied_seq = 9223372036854775807 where room_id = $1", room
    )
    async with query.stream(room) as viewer:
        assert await sequence(viewer, 2) == [1, 2]
        while (control := await viewer.control()).name == "caught-up":
            pass
        most = 2**53 - 1
        assert control == Control("reset", {"reason": "history_trimmed", "first_seq": most, "head_seq": most})
        async with query.stream(room, "latest") as other:
            assert await other.caught_up() == ([], most)


async def test_whoever_asks_for_the_latest_is_not_sent_behind_a_number_that_was_made_up(
    query: QueryService, stream: Stream, room: str
) -> None:
    """The stream has refused it; live, it has come all the same."""
    await stream.publish(events(room, 1, 3))
    async with query.stream(room) as viewer:
        await viewer.caught_up()
        far = event(room, 10**17)
        refused = {**headers(far), HEADER_EVENT_ID: room, "Nats-Expected-Last-Sequence": "1"}
        await stream.client.publish(room_subject(WORKSPACE, room), encode_event(far), headers=refused)
        await stream.publish([event(room, 4)])
        assert await sequence(viewer, 1) == [4]  # so the other message has come as well
        async with query.stream(room, "latest") as late:
            assert await late.caught_up() == ([], 4)
            await stream.publish(events(room, 5, 6))
            assert await sequence(late, 2) == [5, 6]
            assert await sequence(viewer, 2) == [5, 6]


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


async def test_the_seam_under_load(query: QueryService, projections: Projections, stream: Stream, room: str) -> None:
    """Viewers come at any moment while events are said and projected; each sees all of them once, in order."""
    last = 480

    async def say() -> None:
        for start in range(1, last, 30):
            said = events(room, start, start + 29)
            await stream.publish(said)
            await projections.apply_feed(said)

    async def view(delay: float, cursor: int) -> None:
        await asyncio.sleep(delay)
        async with query.stream(room, cursor) as viewer:
            seqs = [one.seq for one in await viewer.until(last)]
        assert seqs == list(range(cursor + 1, last + 1))

    await asyncio.gather(say(), *(view(number * 0.03, number % 3 * 10) for number in range(24)))


async def test_live_messages_twice_early_and_out_of_order(query: QueryService, stream: Stream, room: str) -> None:
    await stream.publish(events(room, 1, 2))
    async with query.stream(room) as viewer:
        await viewer.caught_up()
        for seq in (4, 2, 3, 3, 1, 7, 6, 4, 5):
            await stream.whisper(event(room, seq))
        assert await sequence(viewer, 5) == [3, 4, 5, 6, 7]
        await stream.whisper(event(room, 8))
        assert await sequence(viewer, 1) == [8]


async def test_an_event_that_was_made_up_live_is_let_go_when_the_true_one_comes(
    query: QueryService, stream: Stream, room: str
) -> None:
    """It is refused by the stream, and was nevertheless the first with its number."""
    said, made_up = events(room, 1, 5), event(room, 4, size=5)
    dropped = await query.metric("runroom_query_misplaced_total")
    await stream.publish(said[:3])
    async with query.stream(room) as viewer:
        await viewer.caught_up()
        refused = {**headers(made_up), HEADER_EVENT_ID: room, "Nats-Expected-Last-Sequence": "1"}
        await stream.client.publish(room_subject(WORKSPACE, room), encode_event(made_up), headers=refused)
        assert [one.line.encode() for one in await viewer.events(1)] == [encode_event(made_up)]
        await stream.publish(said[3:])
        assert await sequence(viewer, 1) == [5]
        async with query.stream(room, last_event_id="3") as late:
            assert [one.line.encode() for one in await late.events(2)] == [encode_event(one) for one in said[3:]]
        await stream.publish([event(room, 6)])
        assert await sequence(viewer, 1) == [6]
    assert await query.metric("runroom_query_misplaced_total") == dropped + 1


async def test_live_messages_that_were_lost(query: QueryService, stream: Stream, room: str) -> None:
    """An event that only the stream has: found when a later one shows the hole, and without that within a tick."""
    await stream.publish(events(room, 1, 1))
    async with query.stream(room) as viewer:
        await viewer.caught_up()
        await stream.publish(events(room, 2, 4), quietly=True)
        await stream.publish([event(room, 5)])
        assert await sequence(viewer, 4) == [2, 3, 4, 5]
        await stream.publish(events(room, 6, 6), quietly=True)
        async with asyncio.timeout(3):
            assert await sequence(viewer, 1) == [6]
    assert await query.metric("runroom_query_holes_filled_total") >= 4


async def test_more_was_lost_than_the_ring_holds(query: QueryService, stream: Stream, room: str) -> None:
    await stream.publish(events(room, 1, 1))
    async with query.stream(room) as viewer, query.stream(room, "latest") as other:
        await viewer.caught_up()
        await other.caught_up()
        await stream.publish(events(room, 2, 700), quietly=True)
        await stream.publish(events(room, 701, 702))
        assert await sequence(viewer, 701) == list(range(2, 703))
        assert await sequence(other, 701) == list(range(2, 703))


async def test_a_stream_that_repeats_itself(query: QueryService, stream: Stream, room: str) -> None:
    """What a relay publishes again after a broker came back older stands in the stream twice."""
    await stream.publish(events(room, 1, 200))
    await stream.publish(events(room, 100, 260), again=True)
    await stream.publish(events(room, 150, 300), again=True)
    for cursor in (0, 99, 120, 199, 230, 259, 299):
        async with query.stream(room, cursor) as viewer:
            assert await sequence(viewer, 300 - cursor) == list(range(cursor + 1, 301))
            assert await viewer.control() == Control("caught-up", {"stream_seq": 300})


async def test_a_room_nobody_has_written_to(query: QueryService, stream: Stream, room: str) -> None:
    async with query.stream(room) as viewer, query.stream(room, "latest") as other:
        assert await viewer.caught_up() == ([], 0)
        assert await other.caught_up() == ([], 0)
        await stream.publish(events(room, 1, 2))
        assert await sequence(viewer, 2) == [1, 2]
        assert await sequence(other, 2) == [1, 2]


async def test_where_a_stream_starts(query: QueryService, projections: Projections, stream: Stream, room: str) -> None:
    said = events(room, 1, 6)
    await stream.publish(said)
    await projections.apply_feed(said[:4])

    async def start(from_seq: int | str | None, **headers: str) -> tuple[list[int], int]:
        async with query.stream(room, from_seq, **headers) as viewer:
            history, position = await viewer.caught_up()
        return [one.seq for one in history], position

    assert await start(None) == ([1, 2, 3, 4, 5, 6], 6)
    assert await start(2) == ([3, 4, 5, 6], 6)
    assert await start(6) == ([], 6)
    assert await start("latest") == ([], 6)
    assert await start("latest", last_event_id="4") == ([5, 6], 6)
    assert await start(0, last_event_id="5") == ([6], 6)
    assert await start(5, last_event_id="") == ([6], 6)
    assert await start("0005") == ([6], 6)


@pytest.mark.parametrize("cursor", ["", "-1", "+1", "1.0", "abc", "9223372036854775808", "1" * 30, "Latest", "\u0661"])
async def test_a_cursor_that_is_no_number(query: QueryService, room: str, cursor: str) -> None:
    path = f"/v1/streams/rooms/{room}"
    problem(await query.get(path, {"from_seq": cursor}), 400, "invalid_cursor", "from_seq")
    if cursor.isascii() and cursor:
        problem(await query.get(path, last_event_id=cursor), 400, "invalid_cursor", "Last-Event-ID")


async def test_what_a_stream_refuses(query: QueryService, room: str) -> None:
    path = f"/v1/streams/rooms/{room}"
    problem(await query.get(path, "from_seq=1&from_seq=2"), 400, "invalid_request", "from_seq")
    problem(await query.get(path, accept="application/json"), 406, "not_acceptable")
    problem(await query.get(path, x_workspace_id="a b"), 400, "invalid_request", "x-workspace-id")
    for name in ("a.b", "x" * 129, "a%20b", "*", "%3E", "%00", "%FF"):
        problem(await query.get(f"/v1/streams/rooms/{name}"), 400, "invalid_request", "room_id")


async def test_a_cursor_just_ahead_of_the_stream_is_waited_for(query: QueryService, stream: Stream, room: str) -> None:
    """A client that uses the position a command has just answered."""
    await stream.publish(events(room, 1, 3))
    async with query.stream(room, 5) as viewer:
        await asyncio.sleep(0.3)
        await stream.publish(events(room, 4, 7))
        history, _ = await viewer.caught_up()
        assert [one.seq for one in history + await viewer.events(2 - len(history))] == [6, 7]


async def test_a_cursor_beyond_the_room_is_reset(query: QueryService, stream: Stream, room: str) -> None:
    await stream.publish(events(room, 1, 3))
    async with query.stream(room, 50) as viewer:
        reset = await viewer.control()
        assert reset == Control("reset", {"reason": "cursor_ahead", "first_seq": 4, "head_seq": 3})
        assert await viewer.control() == Control("caught-up", {"stream_seq": 3})
        await stream.publish(events(room, 4, 5))
        assert await sequence(viewer, 2) == [4, 5]


async def test_history_that_is_gone(query: QueryService, projections: Projections, room: str) -> None:
    await projections.apply_feed(events(room, 11, 20))
    for cursor in (0, 9):
        async with query.stream(room, cursor) as viewer:
            reset = await viewer.control()
            assert reset == Control("reset", {"reason": "history_trimmed", "first_seq": 11, "head_seq": 20})
            history, position = await viewer.caught_up()
            assert [one.seq for one in history] == list(range(11, 21))
            assert position == 20
    async with query.stream(room, 10) as viewer:
        history, _ = await viewer.caught_up()
        assert [one.seq for one in history] == list(range(11, 21))


async def test_history_that_is_late_is_waited_for(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    """The stream has forgotten the beginning and the projection does not know it yet: no reset, no skip."""
    await stream.publish(events(room, 5, 6))
    async with query.stream(room) as viewer:
        await asyncio.sleep(1)
        assert [line for line in viewer.lines if line.startswith("event")] == []
        await projections.apply_feed(events(room, 1, 4))
        assert await sequence(viewer, 6) == [1, 2, 3, 4, 5, 6]


async def test_events_of_any_size(query: QueryService, projections: Projections, stream: Stream, room: str) -> None:
    """Frames larger than the ring and than a page."""
    said = events(room, 1, 4, size=700_000)
    await stream.publish(said)
    await projections.apply_feed(said[:2])
    async with query.stream(room) as viewer:
        assert await sequence(viewer, 4) == [1, 2, 3, 4]
        await stream.publish(events(room, 5, 6, size=700_000))
        assert [one.line.encode() for one in await viewer.events(2)] == [
            encode_event(one) for one in events(room, 5, 6, size=700_000)
        ]


async def test_rooms_and_workspaces_apart(query: QueryService, stream: Stream, room: str) -> None:
    async with query.stream(room) as mine, query.stream(room, x_workspace_id="ws_b") as theirs:
        await mine.caught_up()
        await theirs.caught_up()
        await stream.publish([event(room, 1), event(room, 1, workspace_id="ws_b"), event(room, 2)])
        assert [one.envelope["workspace_id"] for one in await mine.events(2)] == ["ws_dev", "ws_dev"]
        assert (await theirs.event()).envelope["workspace_id"] == "ws_b"


async def test_many_viewers_of_one_room_read_its_history_once(
    query: QueryService, projections: Projections, stream: Stream, room: str
) -> None:
    said = events(room, 1, 640)
    await projections.apply_feed(said)
    await stream.publish(said[-1:])
    before = await query.metric('runroom_query_history_reads_total{source="projection"}')

    async def view() -> None:
        async with query.stream(room) as viewer:
            history, _ = await viewer.caught_up()
            assert [one.seq for one in history] == list(range(1, 641))
            assert [one.seq for one in await viewer.events(2)] == [641, 642]

    async def say() -> None:
        await query.until("runroom_query_streams_open", 60)
        await stream.publish(events(room, 641, 642))

    await asyncio.gather(say(), *(view() for _ in range(60)))
    assert await query.metric('runroom_query_history_reads_total{source="projection"}') - before <= 10
    await query.until("runroom_query_streams_open", 0)
    await query.until("runroom_query_rooms_watched", 0)
