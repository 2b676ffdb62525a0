"""Rooms whose last events come to more than the broker puts in one answer, and a small room asked about with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from deploy.local import EmbeddedNats
from services.query.feed.hub import Hub
from services.query.feed.looker import Looker
from services.query.feed.projected import ProjectedFeed
from services.query.feed.replay import Replay
from services.query.feed.stored import StoredFeed
from services.query.settings import FeedSettings
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker
from shared.postgres import running_pool
from tests.support.servers import CUTS_AT_8_MB, running_nats

from .service import WORKSPACE, QueryService
from .test_hub import settled, watching
from .world import Stream, event, events

OTHERS = "ws_other"
LARGE = [f"large_{number}" for number in range(100)]
SIZE = 100_000


@pytest.fixture(scope="module")
def fresh_nats() -> Iterator[EmbeddedNats]:
    with running_nats(CUTS_AT_8_MB) as server:
        yield server


@pytest.fixture(scope="module")
async def large(stream: Stream) -> None:
    await stream.publish(event(room, 1, workspace_id=OTHERS, size=SIZE) for room in LARGE)


@pytest.mark.usefixtures("large")
async def test_how_far_a_small_room_has_come_is_known(variables: dict[str, str], stream: Stream, room: str) -> None:
    """A cursor would be reset if both sources had answered, and one of them with too little."""
    await stream.publish(events(room, 1, 5))
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), StoredFeed(broker)
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings())
        broker.start()
        await broker.wait_connected()
        with ExitStack() as watching_all:
            # At the same time, so that they share questions.
            for one in LARGE:
                watching_all.enter_context(watching(hub, RoomKey(OTHERS, one)))
            small = watching_all.enter_context(watching(hub, RoomKey(WORKSPACE, room)))
            await settled(lambda: small.projection_answered and small.stream_answered)
            assert small.head_seq == 5
        await hub.close()


@pytest.mark.usefixtures("large")
async def test_an_event_of_a_small_room_that_was_lost_live_is_found(
    query: QueryService, stream: Stream, room: str
) -> None:
    await stream.publish(events(room, 1, 1))
    async with AsyncExitStack() as viewers:
        for one in LARGE:
            await viewers.enter_async_context(query.stream(one, "latest", x_workspace_id=OTHERS))
        viewer = await viewers.enter_async_context(query.stream(room))
        await viewer.caught_up()
        await stream.publish(events(room, 2, 2), quietly=True)
        assert [one.seq for one in await viewer.events(1)] == [2]
