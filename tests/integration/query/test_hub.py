"""A room is subscribed to for as long as it has a viewer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from services.query.feed.hub import Hub
from services.query.feed.looker import Looker
from services.query.feed.projected import ProjectedFeed
from services.query.feed.replay import Replay
from services.query.feed.ring import Ring
from services.query.feed.room import Room
from services.query.feed.stored import StoredFeed, Tails
from services.query.settings import FeedSettings
from shared.contracts.events import StepCreated, encode_event
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import STREAM, room_subject
from shared.messaging.broker import Broker
from shared.messaging.client import header_block
from shared.postgres import Pool, running_pool

from .world import Stream, event, events, fresh, headers


@contextmanager
def watching(hub: Hub, key: RoomKey) -> Generator[Room, None, None]:
    room = hub.enter(key)
    try:
        yield room
    finally:
        hub.leave(room)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_subscription_ends_with_the_last_viewer(variables: dict[str, str], stream: Stream, room: str) -> None:
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        await check_subscriptions(broker, pool, RoomKey("ws_dev", room))


async def check_subscriptions(broker: Broker, pool: Pool, key: RoomKey) -> None:
    projected, stored = ProjectedFeed(pool), StoredFeed(broker)
    hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings(stream_limit_room=3))
    broker.start()

    def subjects() -> list[str]:
        # There is no public list of a connection's subscriptions.
        return [one.subject for one in broker.client._subs.values()] if broker.is_connected else []

    await settled(lambda: broker.is_connected)
    with watching(hub, key):
        await settled(lambda: room_subject(*key) in subjects())
        with watching(hub, key) as second, watching(hub, key):
            await settled(lambda: second.ring is not None)
            assert hub.full(key) == "room"
            assert hub.full(RoomKey("ws_dev", "other")) is None
        assert subjects().count(room_subject(*key)) == 1
    await settled(lambda: room_subject(*key) not in subjects())
    # A viewer that is gone before its room is subscribed to leaves nothing behind.
    for _ in range(20):
        with watching(hub, key):
            await asyncio.sleep(0)
    await settled(lambda: room_subject(*key) not in subjects())
    await hub.close()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "room"] == []


class Viewer:
    def __init__(self, *, fails: bool = False) -> None:
        self.told = 0
        self._fails = fails

    def news(self, _ring: Ring | None) -> None:
        self.told += 1
        if self._fails:
            raise RuntimeError


async def test_everybody_is_told(variables: dict[str, str], stream: Stream, room: str) -> None:
    """However many they are, and whatever becomes of one of them."""
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), StoredFeed(broker)
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings())
        broker.start()
        await settled(lambda: broker.is_connected)
        with watching(hub, RoomKey("ws_dev", room)) as watched:
            await settled(lambda: watched.ring is not None)
            viewers = [Viewer(fails=number % 100 == 0) for number in range(600)]
            watched.waiters.update(viewers)
            await stream.publish(events(room, 1, 1))
            await settled(lambda: all(viewer.told for viewer in viewers))
        await hub.close()


async def test_a_message_of_another_subject_is_no_event_of_a_room(variables: dict[str, str], room: str) -> None:
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), StoredFeed(broker)
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings())
        with watching(hub, RoomKey("ws_dev", room)) as watched:
            message = header_block(headers(event(room, 1))), encode_event(event(room, 1))
            watched.receive(room_subject("ws_dev", "another"), "", *message)
            assert watched.head_seq == 0
            watched.receive(room_subject("ws_dev", room), "", *message)
            assert watched.head_seq == 1
        await hub.close()


class Overheard(StoredFeed):
    """Notes the rooms of which a last event was read, and those that were asked about."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.read: list[str] = []
        self.asked: list[str] = []

    async def tails(self, subjects: list[str], behind: int = 0) -> Tails:
        tails = await super().tails(subjects, behind)
        self.read += tails.of
        self.asked += subjects
        return tails


async def test_the_last_event_of_a_room_is_read_once(variables: dict[str, str], stream: Stream) -> None:
    """Of the stream a check reads what is new, of whichever stream that is."""
    rooms = [fresh("room") for _ in range(3)]
    await stream.publish([event(room, 1) for room in rooms])
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), Overheard(broker)
        looker = Looker(projected, stored)
        hub = Hub(broker, looker, Replay(projected, stored), FeedSettings())
        broker.start()
        await settled(lambda: broker.is_connected)
        # One that nobody has written to is asked about anew each time, and by itself.
        with ExitStack() as watching_all:
            watched = [
                watching_all.enter_context(watching(hub, RoomKey("ws_dev", room))) for room in [*rooms, fresh("room")]
            ]
            await settled(lambda: all(stored.asked.count(room.subject) == 2 for room in watched))
            assert sorted(stored.read) == sorted(room.subject for room in watched[:3])
            stored.read.clear()
            await looker.check(watched)
            assert stored.read == []
            await stream.publish(events(rooms[1], 2, 3), quietly=True)
            await looker.check(watched)
            assert stored.read == [watched[1].subject]
            await settled(lambda: watched[1].ring is not None and watched[1].ring.last == 3)
            stored.read.clear()
            await stream.client.request(f"$JS.API.STREAM.DELETE.{STREAM}", timeout=5)
            await stream.ensure()
            await stream.publish(events(rooms[2], 1, 2), quietly=True)
            await looker.check(watched)
            assert stored.read == [watched[2].subject]
            assert [room.head_seq for room in watched] == [1, 3, 2, 0]
        await hub.close()


class Late(StoredFeed):
    """Has an event stored only after the first question, and nobody told of it."""

    def __init__(self, broker: Broker, stream: Stream, said: StepCreated) -> None:
        super().__init__(broker)
        self._stream = stream
        self._late = [said]

    async def tails(self, subjects: list[str], behind: int = 0) -> Tails:
        tails = await super().tails(subjects, behind)
        late, self._late = self._late, []
        await self._stream.publish(late, quietly=True)
        return tails


async def test_an_event_that_is_stored_as_its_room_is_opened_is_found_without_a_check(
    variables: dict[str, str], stream: Stream, room: str
) -> None:
    """Handed on before the room was subscribed to, and stored after it was asked about."""
    await stream.publish(events(room, 1, 1))
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), Late(broker, stream, event(room, 2))
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings())
        broker.start()
        await settled(lambda: broker.is_connected)
        with watching(hub, RoomKey("ws_dev", room)) as watched:
            await settled(lambda: watched.ring is not None and watched.ring.last == 2)
        await hub.close()


class Stumbling(StoredFeed):
    """Comes upon something that nobody has thought of, as long as ``stumbles``."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.stumbles = False
        self.times = 0

    async def tails(self, subjects: list[str], behind: int = 0) -> Tails:
        if self.stumbles:
            self.times += 1
            raise LookupError("nobody has thought of this")
        return await super().tails(subjects, behind)


async def test_a_check_that_fails_is_not_the_last(variables: dict[str, str], stream: Stream, room: str) -> None:
    async with (
        Broker(variables["NATS_URL"], name="test") as broker,
        running_pool(variables["PROJECTION_DSN"], "test", most=2) as pool,
    ):
        projected, stored = ProjectedFeed(pool), Stumbling(broker)
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), FeedSettings(tail_check_seconds=0.05))
        broker.start()
        checking = asyncio.create_task(hub.run())
        await settled(lambda: broker.is_connected)
        with watching(hub, RoomKey("ws_dev", room)) as watched:
            await stream.publish(events(room, 1, 1))
            await settled(lambda: watched.ring is not None and watched.ring.last == 1)
            stored.stumbles = True
            await settled(lambda: stored.times > 2 or checking.done())
            stored.stumbles = False
            await stream.publish(events(room, 2, 2), quietly=True)
            await settled(lambda: watched.ring is not None and watched.ring.last == 2)
        checking.cancel()
        await hub.close()
