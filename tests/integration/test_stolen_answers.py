"""With a service's NATS key in hand: what it asks the stream for, it gets, and not what somebody else has asked for.

Whoever has the key hears what comes to the service's inboxes, and can have answers to requests of his own sent there
(docs/decisions/0038-whose-event-it-is.md).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from operator import attrgetter

import pytest

from deploy.local import EmbeddedNats
from deploy.local.nats import USERS_FILE
from shared.messaging.broker import Broker
from shared.messaging.direct_get import MisplacedAnswerError, StoredMessage, last_by_subjects, next_by_subject
from shared.messaging.stream import StreamSettings, ensure_stream
from tests.support.servers import broker_as

MINE, YOURS = "rooms.1.ws_mine.secret", "rooms.2.ws_yours.lobby"
PATIENCE = 20.0
EVENTS = 300
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Those of the library's inboxes: the last ten are a number that goes up by the same each time."""
COUNTED = 10


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"), users=USERS_FILE.read_text())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def stored(nats: EmbeddedNats) -> None:
    async with broker_as(nats, "command") as command:
        await ensure_stream(command, StreamSettings())
        for number in range(EVENTS):
            await command.client.publish(YOURS, f"yours {number}".encode() + b"." * 4000)
            if number % 100 == 0:
                await command.client.publish(MINE, b"mine")
        await command.client.request(MINE, b"mine", timeout=5)


async def have_mine_sent(thief: Broker, inbox: str) -> None:
    request = json.dumps({"seq": 1, "next_by_subj": MINE, "batch": 2}).encode()
    await thief.client.publish("$JS.API.DIRECT.GET.ROOMS", request, reply=inbox)


@pytest.mark.usefixtures("stored")
async def test_an_inbox_that_was_seen_does_not_give_away_the_next(nats: EmbeddedNats) -> None:
    async with broker_as(nats, "query") as query, broker_as(nats, "query") as thief:
        seen: list[str] = []

        def next_inboxes() -> list[str]:
            numbers = [sum(DIGITS.index(d) * 62**n for n, d in enumerate(reversed(i[-COUNTED:]))) for i in seen[-9:]]
            step = math.gcd(*(later - earlier for earlier, later in pairwise(numbers)))
            guessed = [numbers[-1] + step * ahead for ahead in range(1, 6)]
            return [
                seen[-1][:-COUNTED] + "".join(DIGITS[number // 62**n % 62] for n in reversed(range(COUNTED)))
                for number in guessed
            ]

        def note(subject: str, _reply: str, _headers: bytes, data: bytes) -> None:
            if data != b"mine" and subject not in seen[-1:]:
                seen.append(subject)

        await thief.listen("_INBOX_runroom-query.>", note)
        for _ in range(10):
            await last_by_subjects(query, [YOURS], attrgetter("subject"))
        stopped = False

        async def send_ahead() -> None:
            while not stopped:
                for inbox in next_inboxes():
                    await have_mine_sent(thief, inbox)
                await thief.client.flush(5)

        sending = asyncio.create_task(send_ahead())
        try:
            for _ in range(200):
                answer = await last_by_subjects(query, [YOURS], attrgetter("subject"))
                assert answer.found == [YOURS]
        finally:
            stopped = True
            await sending


@pytest.mark.usefixtures("stored")
async def test_what_is_sent_to_an_inbox_in_use_is_not_taken(nats: EmbeddedNats) -> None:
    """The first message of an answer shows the inbox, and there are more to come."""
    async with broker_as(nats, "query") as query, broker_as(nats, "query") as thief:
        seen: asyncio.Queue[str] = asyncio.Queue()

        def note(subject: str, _reply: str, _headers: bytes, data: bytes) -> None:
            if data.startswith(b"yours 0."):
                seen.put_nowait(subject)

        async def send_along() -> None:
            while True:
                await have_mine_sent(thief, await seen.get())

        await thief.listen("_INBOX_runroom-query.>", note)
        await thief.client.flush(5)
        expected = await next_by_subject(query, YOURS, 1, EVENTS)
        assert len(expected) == EVENTS
        sending = asyncio.create_task(send_along())
        refused = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while refused < 3:
                    answer: list[StoredMessage] = expected
                    try:
                        answer = await next_by_subject(query, YOURS, 1, EVENTS)
                    except MisplacedAnswerError:
                        refused += 1
                    assert answer == expected
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
