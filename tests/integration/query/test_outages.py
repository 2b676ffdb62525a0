"""NATS or PostgreSQL away: streams wait with heartbeats and go on where they were; nothing is skipped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from shared.postgres import migrate
from tests.contract.sse import Comment, Control, Event, RoomStream
from tests.support.servers import PROJECTION_MIGRATIONS, as_service, running_nats

from . import world
from .service import QueryService, running
from .test_reads import problem
from .world import Projections, Stream, event, events, fresh


@pytest.fixture(scope="module")
async def variables(fresh_postgres: EmbeddedPostgres, fresh_nats: EmbeddedNats) -> dict[str, str]:
    """Servers that these tests may kill."""
    dsn = fresh_postgres.dsn("projections")
    await migrate(dsn, PROJECTION_MIGRATIONS)
    variables = {"HEARTBEAT_SECONDS": "0.3", "CURSOR_AHEAD_GRACE_SECONDS": "4"}
    return as_service("query", nats=fresh_nats.url, PROJECTION_DSN=dsn) | variables


@pytest.fixture
async def projections(fresh_postgres: EmbeddedPostgres, variables: dict[str, str]) -> AsyncIterator[Projections]:
    async with world.projections(fresh_postgres.dsn("projections")) as projections:
        yield projections


async def seqs(stream: RoomStream, count: int) -> list[int]:
    return [one.seq for one in await stream.events(count)]


async def test_the_broker_is_killed_and_comes_back(
    query: QueryService, projections: Projections, stream: Stream, fresh_nats: EmbeddedNats
) -> None:
    room, quiet, unwatched = fresh("room"), fresh("room"), fresh("room")
    said = events(room, 1, 5)
    await stream.publish([*said, event(quiet, 1), *events(unwatched, 1, 3)])
    await projections.apply_feed(said[:3])
    await projections.apply_feed(events(unwatched, 1, 2))
    async with query.stream(room) as viewer, query.stream(quiet) as other:
        assert await seqs(viewer, 5) == [1, 2, 3, 4, 5]
        assert await seqs(other, 1) == [1]
        fresh_nats.kill()
        try:
            await query.until_ready("nats", "failed")
            # A room that nobody watched is what the projection knows of it.
            async with query.stream(unwatched) as new:
                assert [one.seq for one in (await new.caught_up())[0]] == [1, 2]
            # Of a room that was watched more is known, and waited for.
            async with query.stream(room) as late:
                assert await seqs(late, 3) == [1, 2, 3]
                # A cursor beyond the projection may be right: the stream is not there to say so.
                async with query.stream(room, 9) as ahead, query.stream(room, 8) as right:
                    await asyncio.sleep(4.5)
                    for one in (ahead, right):
                        assert not any(line.startswith("event") for line in one.lines)
                        assert isinstance(await one.item(), Comment)
                    # What a projector applies is shown, even without the stream.
                    await projections.apply_feed(events(room, 4, 6))
                    assert await seqs(viewer, 1) == [6]
                    fresh_nats.start()
                    await stream.reconnected()
                    await stream.publish(events(room, 6, 7))
                    assert await seqs(viewer, 1) == [7]
                    # The relay was away as well, and has its time now, however long that was.
                    await asyncio.sleep(1.2)
                    await stream.publish(events(room, 8, 8))
                    assert await right.control() == Control("caught-up", {"stream_seq": 8})
                    assert await seqs(viewer, 1) == [8]
                    assert await seqs(late, 5) == [4, 5, 6, 7, 8]
                    reset = await ahead.control()
                    assert reset == Control("reset", {"reason": "cursor_ahead", "first_seq": 1, "head_seq": 8})
        finally:
            fresh_nats.start()
        # A room in which nothing happened meanwhile is still listened to.
        await stream.publish(events(quiet, 2, 3))
        assert await seqs(other, 2) == [2, 3]


async def test_a_broker_that_was_silent_for_longer_than_the_grace_has_all_of_it_yet_to_come(
    query: QueryService, stream: Stream, fresh_nats: EmbeddedNats
) -> None:
    """Answers that come at last were waited for by the relay, too."""
    room = fresh("room")
    await stream.publish([event(room, 1)])
    async with query.stream(room) as viewer:
        assert await seqs(viewer, 1) == [1]
        assert fresh_nats.pid is not None
        os.kill(fresh_nats.pid, signal.SIGSTOP)
        try:
            async with query.stream(room, 2) as right, query.stream(room, 2) as too:
                await asyncio.sleep(4.5)
                os.kill(fresh_nats.pid, signal.SIGCONT)
                await asyncio.sleep(3)
                await stream.publish([event(room, 2)])
                for one in (right, too):
                    assert await one.control() == Control("caught-up", {"stream_seq": 2})
        finally:
            os.kill(fresh_nats.pid, signal.SIGCONT)


async def test_a_broker_that_comes_back_with_another_stream_has_passed_the_place_where_it_was(
    query: QueryService, stream: Stream, fresh_nats: EmbeddedNats
) -> None:
    room, other = fresh("room"), fresh("room")
    await stream.publish([event(room, 1), *events(other, 1, 20)])
    async with query.stream(room) as viewer, query.stream(other) as neighbour:
        assert await seqs(viewer, 1) == [1]
        assert await seqs(neighbour, 20) == list(range(1, 21))
        os.kill(query.pid, signal.SIGSTOP)
        try:
            fresh_nats.kill()
            shutil.rmtree(fresh_nats.data_dir / "jetstream")
            fresh_nats.start()
            await stream.reconnected()
            await stream.ensure()
            await stream.publish(events(room, 1, 2))
            # As far as this module has come, and further.
            await stream.publish(events(other, 1, 100))
        finally:
            os.kill(query.pid, signal.SIGCONT)
        assert await seqs(viewer, 1) == [2]


async def test_while_the_broker_was_away_much_was_said(
    query: QueryService, stream: Stream, fresh_nats: EmbeddedNats
) -> None:
    """More than the ring holds, and none of it in the projection."""
    room = fresh("room")
    await stream.publish(events(room, 1, 2))
    async with query.stream(room) as viewer:
        assert await seqs(viewer, 2) == [1, 2]
        fresh_nats.kill()
        fresh_nats.start()
        await stream.reconnected()
        await stream.publish(events(room, 3, 900), quietly=True)
        assert await seqs(viewer, 898) == list(range(3, 901))


async def test_postgres_is_killed_and_comes_back(
    query: QueryService, projections: Projections, stream: Stream, fresh_postgres: EmbeddedPostgres
) -> None:
    room, unknown = fresh("room"), fresh("room")
    said = events(room, 1, 300)
    await stream.publish(said)
    await projections.apply_feed(said)
    async with query.stream(room, 300) as viewer:
        await viewer.caught_up()
        fresh_postgres.kill()
        try:
            for path in ("/v1/runs", "/v1/runs/run_1", "/v1/runs/run_1/steps", "/v1/runs/run_1?min_seq=1"):
                response = await query.get(path)
                problem(response, 503, "store_unavailable")
            assert (await query.get("/readyz")).status_code == 503
            assert (await query.get("/healthz")).status_code == 200
            # Live goes on, and the stream serves history.
            await stream.publish(events(room, 301, 302))
            assert await seqs(viewer, 2) == [301, 302]
            for cursor in (0, 150, 299):
                async with query.stream(room, cursor) as late:
                    assert await seqs(late, 302 - cursor) == list(range(cursor + 1, 303))
            # Whether a room has no events, or only the projection has them, cannot be told now.
            async with query.stream(unknown) as waiting:
                await asyncio.sleep(0.5)
                assert not any(line.startswith("event") for line in waiting.lines)
                await stream.publish(events(unknown, 1, 1))
                assert await seqs(waiting, 1) == [1]
        finally:
            fresh_postgres.start()
        await query.until_ready("projections", "ok")
        assert (await query.get("/v1/runs")).status_code == 200


async def test_a_database_that_does_not_let_it_in_is_named_before_anybody_reads(
    variables: dict[str, str], fresh_postgres: EmbeddedPostgres, capfd: pytest.CaptureFixture[str]
) -> None:
    url = urlsplit(variables["PROJECTION_DSN"])
    wrong = url._replace(netloc=f"{url.username}:s3cret@{url.hostname}:{url.port}").geturl()
    log = ""
    async with running(variables | {"PROJECTION_DSN": wrong, "LOG_FORMAT": "json"}) as query:
        async with asyncio.timeout(20):
            while "projection_store_unavailable" not in log:
                await asyncio.sleep(0.1)
                log += capfd.readouterr().err
        assert '"error": "InvalidPasswordError"' in log
        for _ in range(2):
            ready = (await query.get("/readyz")).json()
            assert ready["dependencies"]["projections"] == {"status": "failed", "detail": "InvalidPasswordError"}
        log += capfd.readouterr().err
    assert log.count("projection_store_unavailable") == 1
    assert "s3cret" not in log


async def test_a_start_without_either(
    variables: dict[str, str], fresh_postgres: EmbeddedPostgres, fresh_nats: EmbeddedNats, stream: Stream
) -> None:
    room = fresh("room")
    await stream.publish(events(room, 1, 3))
    fresh_postgres.stop()
    fresh_nats.stop()
    try:
        async with running(variables) as query, query.stream(room) as viewer:
            assert isinstance(await viewer.item(), Comment)
            problem(await query.get("/v1/runs"), 503, "store_unavailable")
            fresh_nats.start()
            assert await seqs(viewer, 3) == [1, 2, 3]
            fresh_postgres.start()
            await query.until_ready("projections", "ok")
            assert (await query.get("/readyz")).status_code == 200
    finally:
        fresh_nats.start()
        fresh_postgres.start()


async def test_a_broker_without_the_stream_yet(variables: dict[str, str], fresh_nats: EmbeddedNats) -> None:
    """The relay has never run: an empty room is an open, empty stream, and goes on once there is a stream."""
    room = fresh("room")
    with running_nats() as empty:
        async with (
            running(variables | {"NATS_URL": empty.url}) as query,
            query.stream(room) as viewer,
            world.stream(empty.url) as stream,
        ):
            assert await viewer.caught_up() == ([], 0)
            await stream.ensure()
            await stream.publish(events(room, 1, 2))
            assert await seqs(viewer, 2) == [1, 2]


async def test_an_event_that_comes_while_the_relay_is_waited_for_is_sent_at_once(variables: dict[str, str]) -> None:
    """Not when the wait is over, before which there are two heartbeats."""
    with running_nats() as emptied:
        impatient = {"NATS_URL": emptied.url, "CURSOR_AHEAD_GRACE_SECONDS": "0", "HEARTBEAT_SECONDS": "1"}
        async with running(variables | impatient) as query, world.stream(emptied.url) as stream:
            await stream.ensure(filled=False)
            caught_up = Control("caught-up", {"stream_seq": 1})
            followed: list[Event | Control | Comment] = []
            # On a machine that is busy one heartbeat may come first all the same.
            while caught_up not in followed and len(followed) < 5:
                room = fresh("room")
                async with query.stream(room, 1) as viewer:
                    assert isinstance(await viewer.item(), Comment)
                    await stream.publish(events(room, 1, 1))
                    followed.append(await viewer.item())
            assert caught_up in followed


async def test_what_a_stream_does_not_hold_that_is_yet_to_be_filled_is_to_come(
    variables: dict[str, str], projections: Projections
) -> None:
    """Also where the projection has let it go."""
    room = fresh("room")
    await projections.apply_feed(events(room, 11, 20))
    with running_nats() as emptied:
        async with running(variables | {"NATS_URL": emptied.url}) as query, world.stream(emptied.url) as stream:
            await stream.ensure(filled=False)
            async with query.stream(room) as viewer:
                assert isinstance(await viewer.item(), Comment)
                await stream.publish(events(room, 1, 10))
                assert await seqs(viewer, 20) == list(range(1, 21))
