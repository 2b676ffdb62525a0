"""PostgreSQL and NATS go away, come back, and come back as something else."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.stream import StreamSettings, StreamState, ensure_stream, mark_rewound, stream_state
from shared.postgres import migrate
from tests.integration.projector.history import RoomHistory, publish, recreate_stream, store
from tests.integration.projector.workers import Workers, applied, feed_matches, running, shared_by
from tests.support.servers import EVENT_STORE_MIGRATIONS, PROJECTION_MIGRATIONS


@pytest.fixture(scope="module")
async def workers(
    fresh_postgres: EmbeddedPostgres, stream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Workers]:
    event_store, projections = (fresh_postgres.dsn(name) for name in ("event_store", "projections"))
    await migrate(event_store, EVENT_STORE_MIGRATIONS)
    await migrate(projections, PROJECTION_MIGRATIONS)
    logs: Path = tmp_path_factory.mktemp("logs")
    with running(event_store, projections, stream_url, logs, 2) as workers:
        yield workers
    assert '"level": "error"' not in workers.log()


@pytest.fixture
def event_store(fresh_postgres: EmbeddedPostgres) -> str:
    return fresh_postgres.dsn("event_store")


def rooms(name: str, runs: int = 3) -> list[RoomHistory]:
    histories = [RoomHistory(f"{name}-{number}") for number in range(40)]
    for history in histories:
        for _ in range(runs):
            history.run()
    return histories


def all_events(histories: list[RoomHistory], after: int = 0) -> list:
    return [event for history in histories for event in history.events if event.seq > after]


async def test_postgres_is_killed_and_comes_back(
    workers: Workers, fresh_postgres: EmbeddedPostgres, event_store: str, stream_url: str
) -> None:
    histories = rooms("killed", 40)
    await store(event_store, all_events(histories))
    await publish(stream_url, all_events(histories))
    fresh_postgres.kill()
    await asyncio.sleep(0.5)
    fresh_postgres.start()
    await applied(workers.projection_dsn, histories)
    await feed_matches(workers.projection_dsn, histories)


async def test_nats_is_killed_and_comes_back(
    workers: Workers, fresh_nats: EmbeddedNats, broker: Broker, event_store: str, stream_url: str
) -> None:
    histories = rooms("reconnect")
    await store(event_store, all_events(histories))
    await publish(stream_url, all_events(histories))
    fresh_nats.kill()
    await asyncio.sleep(0.3)
    fresh_nats.start()
    await seen(broker)
    for history in histories:
        history.run()
    await store(event_store, all_events(histories, after=15))
    await publish(stream_url, all_events(histories, after=15))
    await applied(workers.projection_dsn, histories)
    await feed_matches(workers.projection_dsn, histories)


async def test_marks_that_cannot_be_read_stop_nobody(
    workers: Workers, broker: Broker, event_store: str, stream_url: str
) -> None:
    before = rooms("before_marks")
    await store(event_store, all_events(before))
    await publish(stream_url, all_events(before))
    await applied(workers.projection_dsn, before)
    state = await seen(broker)
    config = (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]
    await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, "metadata": {"runroom-epoch": "abc"}})
    await asyncio.sleep(1.5)  # longer than between two looks at the stream
    after = rooms("after_marks")
    await store(event_store, all_events(after))
    await publish(stream_url, all_events(after))
    await applied(workers.projection_dsn, after)
    await came_by_the_stream(workers.projection_dsn, "after_marks")
    # The relay puts them right.
    assert (await ensure_stream(broker, StreamSettings(), state.identity)).identity == state.identity
    await feed_matches(workers.projection_dsn, before + after)


async def test_a_recreated_stream_is_read_from_its_start(
    workers: Workers, broker: Broker, event_store: str, stream_url: str
) -> None:
    before = rooms("before")
    await store(event_store, all_events(before))
    await publish(stream_url, all_events(before))
    await applied(workers.projection_dsn, before)
    await recreate_stream(stream_url)
    await ensure_stream(broker, StreamSettings())
    # Fewer messages than the checkpoints count, so that only a reader that starts again sees them.
    after = rooms("after", 1)
    await store(event_store, all_events(after))
    await publish(stream_url, all_events(after))
    await applied(workers.projection_dsn, after)
    await feed_matches(workers.projection_dsn, before + after)
    await came_by_the_stream(workers.projection_dsn, "after")


async def test_a_stream_that_came_back_older_is_read_from_where_it_was_cut(
    workers: Workers, fresh_nats: EmbeddedNats, broker: Broker, event_store: str, stream_url: str, tmp_path: Path
) -> None:
    kept = rooms("kept", 1)
    await store(event_store, all_events(kept))
    await publish(stream_url, all_events(kept))
    await applied(workers.projection_dsn, kept)
    fresh_nats.stop()
    shutil.copytree(fresh_nats.data_dir / "jetstream", tmp_path / "older")
    fresh_nats.start()
    lost = rooms("lost", 2)
    await store(event_store, all_events(lost))
    await publish(stream_url, all_events(lost))
    await applied(workers.projection_dsn, lost)
    fresh_nats.kill()
    shutil.rmtree(fresh_nats.data_dir / "jetstream")
    (tmp_path / "older").rename(fresh_nats.data_dir / "jetstream")
    fresh_nats.start()
    # The relay finds that the stream ends earlier than it did, says so, and publishes again what is gone.
    await mark_rewound(broker, await seen(broker))
    again = rooms("again", 1)
    await store(event_store, all_events(again))
    await publish(stream_url, all_events(again) + all_events(lost))
    await applied(workers.projection_dsn, again)
    await feed_matches(workers.projection_dsn, kept + lost + again)
    await came_by_the_stream(workers.projection_dsn, "again")


@pytest.mark.parametrize("seconds_away", [0.0, 3.0], ids=["within a lease", "beyond a lease"])
async def test_projections_that_are_made_anew_are_filled_by_the_workers_that_run(
    workers: Workers, fresh_postgres: EmbeddedPostgres, event_store: str, stream_url: str, seconds_away: float
) -> None:
    before = rooms(f"anew-{seconds_away:.0f}", 1)
    await store(event_store, all_events(before))
    await publish(stream_url, all_events(before))
    await applied(workers.projection_dsn, before)
    epochs = await epochs_of(workers.projection_dsn)
    fresh_postgres.execute("drop database projections with (force)")
    await asyncio.sleep(seconds_away)
    fresh_postgres.execute(
        "create database projections owner runroom_migrate;"
        "grant connect on database projections to runroom_projector, runroom_query"
    )
    await migrate(fresh_postgres.dsn("projections", "runroom_migrate"), PROJECTION_MIGRATIONS)
    await applied(workers.projection_dsn, before)
    after = rooms(f"filled-{seconds_away:.0f}", 1)
    await store(event_store, all_events(after))
    await publish(stream_url, all_events(after))
    await applied(workers.projection_dsn, after)
    await feed_matches(workers.projection_dsn, before + after)
    await shared_by(workers.projection_dsn, 2)
    # Whoever writes late, for the database of before, is fenced off in this one.
    assert min((await epochs_of(workers.projection_dsn)).values()) > max(epochs.values())


async def test_leases_that_were_deleted_are_made_again(workers: Workers, fresh_postgres: EmbeddedPostgres) -> None:
    fresh_postgres.execute("delete from projector_leases", database="projections")
    await shared_by(workers.projection_dsn, 2)


async def epochs_of(dsn: str) -> dict[tuple[str, int], int]:
    """Of every partition of each projection."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("select projection, partition, epoch from projector_leases")
    await connection.close()
    return {(row["projection"], row["partition"]): row["epoch"] for row in rows}


async def seen(broker: Broker) -> StreamState:
    """The stream, as soon as it can be seen again."""
    while True:
        with contextlib.suppress(BrokerUnavailableError):
            if (state := await stream_state(broker)) is not None:
                return state
        await asyncio.sleep(0.05)


async def came_by_the_stream(dsn: str, name: str) -> None:
    """Asserts that no event of these rooms had to be read from the event store."""
    connection = await asyncpg.connect(dsn)
    count = await connection.fetchval(
        "select count(*) from proj_room_events where room_id like $1 and stream_position = 0", f"{name}-%"
    )
    await connection.close()
    assert count == 0
