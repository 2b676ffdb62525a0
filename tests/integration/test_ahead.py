"""What clients send before it is their turn: behind a request that is answered, or thousands of them at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import cast

import pytest
from litestar.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.http.connection import Connection
from shared.turns import Turns
from tests.integration.connections import PATIENCE, Crashing, as_in_production, served


def test_thousands_sent_ahead_wait_as_they_came() -> None:
    """And not as objects, which are eighty times as large; when the client leaves, nothing of them stays."""

    async def check() -> None:
        async with served("answer") as service:
            before = cycles()
            reader, writer = await service.half()
            writer.write(b"GET /h HTTP/1.1\r\nHost:h\r\n\r\n" * 9000)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert cycles() - before < 300
            gc.disable()
            try:
                writer.transport.abort()
                service.app.go_on.set()
                async with asyncio.timeout(PATIENCE):
                    while service.connections or cycles() > before:
                        await asyncio.sleep(0.01)
            finally:
                gc.enable()
            assert reader is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\n\r\n" * 9000)
            async with asyncio.timeout(6 * PATIENCE):
                for _ in range(9000):
                    assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
            writer.close()

    as_in_production(check())


class Stepping(Crashing):
    """Answers as many requests as it is let to."""

    def __init__(self) -> None:
        super().__init__("answer")
        self.asked = 0
        self._turn = asyncio.Condition()
        self._left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        async with self._turn:
            await self._turn.wait_for(lambda: self._left)
            self._left -= 1
        await super().__call__(scope, receive, send)

    async def let(self, requests: int) -> None:
        async with self._turn:
            self._left += requests
            self._turn.notify_all()

    async def answers(self, reader: asyncio.StreamReader, requests: int) -> None:
        await self.let(requests)
        async with asyncio.timeout(PATIENCE):
            for _ in range(requests):
                assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")


class Open(Connection):
    """A connection that says how much it keeps of what has come."""

    @property
    def kept(self) -> int:
        return len(self._rest)


UNREADABLE = ["http://h", "http://h:99999999/", "http://a@b@c/", "/\xe9"]


@pytest.mark.parametrize("target", UNREADABLE)
def test_a_target_that_cannot_be_read_takes_nothing_from_the_request_before_it(target: str) -> None:
    async def check() -> None:
        async with served("answer") as service:
            reader, writer = await service.half(b"Content-Length: 0\r\n")
            writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1"))
            await asyncio.sleep(0.05)
            service.app.go_on.set()
            async with asyncio.timeout(PATIENCE):
                said = await reader.read()
            # And then the end, as behind anything that is refused (docs/limits.md).
            assert (said[:13], said[-4:], said.count(b"HTTP/1.1")) == (b"HTTP/1.1 200 ", b"body", 1)
            writer.close()

    as_in_production(check())


@pytest.mark.parametrize("target", UNREADABLE)
def test_a_target_that_cannot_be_read_keeps_nobody_waiting_while_its_client_stays(target: str) -> None:
    large = b"Host: h\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"

    async def check() -> None:
        async with served("answer", most_waiting=80_000) as service:
            refused, staying = await asyncio.open_connection("127.0.0.1", service.port)
            staying.write(f"GET {target} HTTP/1.1\r\n".encode("latin-1") + large)
            async with asyncio.timeout(PATIENCE):
                assert b" 400 " in await refused.readline()
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(b"GET /whole HTTP/1.1\r\n" + large)
                assert b" 200 " in await reader.readline()
            for one in (staying, writer):
                one.close()

    as_in_production(check())


SENT_AHEAD = b"GET /whole HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 63 + b"\r\n\r\n"
"""100 bytes."""


def test_who_is_read_on_all_the_while_keeps_the_process_waiting_all_the_same() -> None:
    """Since the first of what he has sent ahead came, as long as any of it is left."""

    async def check() -> None:
        app = Stepping()
        async with served(app, most_ahead=20_000) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(SENT_AHEAD * 1000)
            await service.until_ahead(20_000, 100_000)
            is_dropped = False
            for _ in range(5):
                await asyncio.sleep(0.3)  # longer than anybody may keep all that is held
                try:
                    await app.answers(reader, 1)
                except (asyncio.IncompleteReadError, ConnectionResetError):
                    is_dropped = True
                    break
            assert is_dropped
            await service.until_ahead(0, 0)
            await app.let(1000)
            writer.close()

    as_in_production(check())


def test_who_sends_ahead_holds_what_is_left_of_it() -> None:
    """And is answered to the end where there is room for that, however long it takes."""

    async def check() -> None:
        app = Stepping()
        async with served(app, most_ahead=22_000, kind=Open) as service:
            first, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(SENT_AHEAD * 200)
            await app.answers(first, 150)
            await service.until_ahead(4_000, 5_000)
            assert [cast("Open", one).kept < 10_000 for one in service.connections] == [True]
            await asyncio.sleep(0.3)  # longer than anybody may keep all that is held
            second, other = await asyncio.open_connection("127.0.0.1", service.port)
            other.write(SENT_AHEAD * 130)
            await service.until_ahead(14_000, 18_000)
            await app.let(180)
            async with asyncio.timeout(PATIENCE):
                for reader, left in ((first, 50), (second, 130)):
                    for _ in range(left):
                        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            await service.until_ahead(0, 0)
            for one in (writer, other):
                one.close()

    as_in_production(check())


class Held(Turns):
    """Nobody has a turn before all do."""

    def __init__(self) -> None:
        super().__init__(32)
        self.waiting: list[Callable[[], None]] = []

    def enter(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    async def until(self, waiting: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.waiting) < waiting:
                await asyncio.sleep(0.01)

    def go(self) -> None:
        for work in self.waiting:
            work()
        self.waiting.clear()


LARGE = {
    "head": b"GET /whole HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"a" * 60_000),
    "fields": b"GET /whole HTTP/1.1\r\nHost: h\r\n%b\r\n" % (b"x: y\r\n" * 98),
    "body": b"POST /whole HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n%b" % bytes(60_000),
}


@pytest.mark.parametrize(("large", "most"), [("head", 100_000), ("fields", 20_000), ("body", 100_000)])
def test_large_requests_that_wait_for_their_turn_are_bounded(large: str, most: int) -> None:
    """There is room for one of them. Whoever is there stays; small ones are not counted."""

    async def check() -> None:
        turns = Held()
        async with served("answer", most_waiting=most, turns=turns) as service:
            clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

            async def send(data: bytes) -> asyncio.StreamReader:
                clients.append(await asyncio.open_connection("127.0.0.1", service.port))
                clients[-1][1].write(data)
                return clients[-1][0]

            for _ in range(2):
                first = await send(LARGE[large])
                await turns.until(1)
                async with asyncio.timeout(PATIENCE):
                    said = await (await send(LARGE[large])).read()
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nretry-after: 1\r\n" in said
                assert b'"error":"overloaded"' in said
                waiting = len(turns.waiting)
                small = [await send(SENT_AHEAD) for _ in range(50)]
                await turns.until(waiting + 50)
                turns.go()
                for reader in (first, *small):
                    async with asyncio.timeout(PATIENCE):
                        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            for _, writer in clients:
                writer.close()

    as_in_production(check())


def test_who_has_left_before_his_turn_is_not_answered_and_keeps_no_room() -> None:
    async def check() -> None:
        turns, app = Held(), Stepping()
        async with served(app, most_waiting=100_000, turns=turns) as service:
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(LARGE["head"])
            await turns.until(1)
            writer.transport.abort()
            await service.empty()
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(LARGE["head"])
            await turns.until(2)
            turns.go()
            await app.answers(reader, 1)
            assert app.asked == 1
            writer.close()

    as_in_production(check())


def cycles() -> int:
    return sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects())
