"""Messages in a room that are no events, in any number and anywhere: behind them the room is as it was."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from services.query.feed import looker as looker_module
from services.query.feed import stored
from services.query.feed.hub import Hub
from services.query.feed.looker import Looker
from services.query.feed.projected import ProjectedFeed
from services.query.feed.replay import Replay
from services.query.feed.stored import StoredFeed
from services.query.settings import FeedSettings
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import room_subject
from shared.messaging.broker import Broker
from shared.postgres import running_pool
from shared.telemetry import LineBudget
from tests.contract.sse import Control

from .service import WORKSPACE, QueryService
from .test_feed import sequence
from .test_hub import settled, watching
from .world import Projections, Stream, events

SIZE = 1500
"""About that of an answer of the API."""


async def put_strays(stream: Stream, room: str, number: int, size: int = SIZE) -> None:
    """They are stored when this returns."""
    subject = room_subject(WORKSPACE, room)
    for _ in range(number - 1):
        await stream.client.publish(subject, b"x" * size)
    await stream.client.request(subject, b"x" * size, timeout=10)


@pytest.mark.parametrize("number", [1, 1500])
@pytest.mark.parametrize("projected", [0, 3])
async def test_a_room_that_ends_with_what_is_no_event(
    query: QueryService, projections: Projections, stream: Stream, room: str, number: int, projected: int
) -> None:
    said = events(room, 1, 6)
    await stream.publish(said)
    await put_strays(stream, room, number)
    if projected:
        await projections.apply_feed(said[:projected])
    async with query.stream(room) as all_of_it, query.stream(room, 6) as right, query.stream(room, 50) as wrong:
        assert await sequence(all_of_it, 6) == [1, 2, 3, 4, 5, 6]
        assert await all_of_it.control() == Control("caught-up", {"stream_seq": 6})
        assert await right.control() == Control("caught-up", {"stream_seq": 6})
        reset = await wrong.control()
        assert (reset.name, reset.data["reason"], reset.data["head_seq"]) == ("reset", "cursor_ahead", 6)


@pytest.mark.parametrize("number", [1, 200, 6000])
async def test_a_room_with_what_is_no_event_in_its_midst(
    query: QueryService, projections: Projections, stream: Stream, room: str, number: int
) -> None:
    await put_strays(stream, room, number)
    said = events(room, 1, 6)
    await stream.publish(said[:3])
    await put_strays(stream, room, number)
    await stream.publish(said[3:])
    await put_strays(stream, room, 1)
    await projections.apply_feed(said[:3])
    async with query.stream(room) as viewer, query.stream(room, 4) as other:
        assert await sequence(viewer, 6) == [1, 2, 3, 4, 5, 6]
        assert await sequence(other, 2) == [5, 6]


async def test_a_room_of_nothing_else_is_empty(query: QueryService, stream: Stream, room: str) -> None:
    await put_strays(stream, room, 300)
    async with query.stream(room) as viewer:
        assert await viewer.caught_up() == ([], 0)


async def test_while_the_last_event_is_not_found_the_projection_is_asked_and_the_room_not_called_empty(
    variables: dict[str, str], projections: Projections, stream: Stream, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = events(room, 1, 6)
    # So that strides that double pass over the events.
    await put_strays(stream, room, 100)
    await stream.publish(said)
    await put_strays(stream, room, 2000)
    monkeypatch.setattr(stored, "_MOST_PAGES", 0)
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, feed = ProjectedFeed(pool), StoredFeed(broker)
        looker = Looker(projected, feed)
        hub = Hub(broker, looker, Replay(projected, feed), FeedSettings())
        broker.start()
        await settled(lambda: broker.is_connected)
        with (
            watching(hub, RoomKey(WORKSPACE, room)) as watched,
            watching(hub, RoomKey(WORKSPACE, f"{room}_b")) as other,
        ):
            # Others that are asked about with it have their answer.
            both = await watched.look(), await other.look()
            assert both == (False, True)
            assert watched.projection_answered
            assert not watched.is_answered
            await settled(lambda: other.ring is not None)
            assert watched.head_seq == 0
            assert watched.ring is None
            # There is no next event, and nothing that would say so but a check.
            await projections.apply_feed(said[:2])
            await looker.check([watched])
            assert (watched.head_seq, watched.is_answered) == (2, False)
            # With some work each time it comes to the end.
            monkeypatch.setattr(stored, "_MOST_PAGES", 2)
            checks = 0
            while not watched.is_answered:
                await looker.check([watched, other])
                checks += 1
            assert checks > 2
            assert watched.head_seq == 6
            assert await watched.look()
        await hub.close()


async def test_rooms_that_end_with_what_is_large_cost_no_connection(
    variables: dict[str, str], stream: Stream, room: str
) -> None:
    """All of their answers at once are more than NATS keeps for a connection."""
    rooms = [f"{room}_{number}" for number in range(16)]
    for one in rooms:
        await stream.publish(events(one, 1, 3))
        await put_strays(stream, one, 2, 3_000_000)
    connections: list[float] = []

    async def count() -> None:
        connections.append(asyncio.get_running_loop().time())

    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        broker.on_connected(count)
        projected, feed = ProjectedFeed(pool), StoredFeed(broker)
        looker = Looker(projected, feed)
        hub = Hub(broker, looker, Replay(projected, feed), FeedSettings())
        broker.start()
        await settled(lambda: broker.is_connected)
        with ExitStack() as watching_all:
            watched = [watching_all.enter_context(watching(hub, RoomKey(WORKSPACE, one))) for one in rooms]
            # However often it takes: a check has a bounded time for such rooms.
            async with asyncio.timeout(60):
                while not all(one.is_answered for one in watched):
                    await looker.check(watched)
            assert [one.head_seq for one in watched] == [3] * len(rooms)
        await hub.close()
    assert len(connections) == 1


async def test_a_stream_that_does_not_answer_is_said_and_not_at_every_tick(
    variables: dict[str, str], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looker_module, "_stream_lines", LineBudget(1, 1_000_000))
    # Never started: it is not connected.
    broker = Broker(variables["NATS_URL"], name="test")
    async with running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool:
        projected, feed = ProjectedFeed(pool), StoredFeed(broker)
        looker = Looker(projected, feed)
        hub = Hub(broker, looker, Replay(projected, feed), FeedSettings())
        with capture_logs() as lines, watching(hub, RoomKey(WORKSPACE, room)) as watched:
            for _ in range(3):
                await looker.check([watched])
        await hub.close()
    said = [(line["event"], line["log_level"]) for line in lines if line["event"].startswith("tail")]
    assert said == [("tails_unknown", "warning")]
