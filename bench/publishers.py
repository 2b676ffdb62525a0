"""Events put into a room, or a channel, one after another."""

import asyncio
import itertools
import re
import time
from typing import Protocol

import msgspec

from bench.load.http import Answer, Connection, post

_RUN = {
    "title": "Plan the offsite",
    "goal": "Everybody in one place for two days",
    "input": {"people": 12, "month": "June"},
    "tags": ["ops", "bench"],
}
_SEQ = re.compile(rb'"stream_seq":\d+')


class Publisher(Protocol):
    async def publish(self) -> int:
        """One event more, answered; its position. Raises ``AssertionError`` when it is refused."""
        ...


class CommandPublisher:
    """Creates runs in a room."""

    def __init__(self, connection: Connection, room_id: str, workspace_id: str = "bench") -> None:
        self._connection = connection
        self._request = post("/v1/runs", workspace_id, msgspec.json.encode({"room_id": room_id, **_RUN}))

    async def publish(self) -> int:
        answer = _accepted(await self._connection.send(self._request))
        return msgspec.json.decode(answer.body)["stream_seq"]


class ChannelPublisher:
    """Publishes an event of ours, with positions from 1 on, to a channel of nchan."""

    def __init__(self, connection: Connection, channel: str, envelope: bytes) -> None:
        self._connection = connection
        self._path = f"/publish/{channel}"
        self._envelope = envelope
        self._seq = 0

    async def publish(self) -> int:
        self._seq += 1
        body = _SEQ.sub(b'"stream_seq":%d' % self._seq, self._envelope)
        _accepted(await self._connection.send(post(self._path, "bench", body)))
        return self._seq


async def publish_paced(publisher: Publisher, rate: float, stop: asyncio.Event) -> dict[int, float]:
    """Events at so many a second until told to stop; the position of each and when it was due."""
    due: dict[int, float] = {}
    started = time.monotonic()
    for number in itertools.count():
        at = started + number / rate
        if (wait := at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if stop.is_set():
            break
        due[await publisher.publish()] = at
    return due


def _accepted(answer: Answer) -> Answer:
    assert answer.status in (201, 202), f"an event was answered {answer.status}: {answer.body[:200]!r}"
    return answer
