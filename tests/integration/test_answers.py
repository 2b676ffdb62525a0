"""Connections as the services' server has them, around an application that does not end its answers.

An answer's head waits for its body, so that both go at once: what clients see when nothing comes after it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
import uvloop
from litestar.types import Receive, Scope, Send
from prometheus_client import CollectorRegistry, Gauge
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from shared.http.backlog import Backlog
from shared.http.connection import CRUMBS_AT_ONCE, Connection
from shared.http.cors import Cors
from shared.http.deadlines import RequestTimes
from shared.http.exchange import ObservedApp
from shared.http.reading import BODY
from shared.http.room import Room
from shared.turns import Turns
from tests.support.work import counted

PATIENCE = 10.0


class Crashing:
    """Answers ``/whole``; begins any other answer, waits for ``go_on`` and does as ``end`` says.

    With ``wait`` it waits before it begins.
    """

    def __init__(self, end: str) -> None:
        self.end = end
        self.body = b"body"
        self.has_begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if self.end == "wait":
            self.has_begun.set()
            await self.go_on.wait()
        length = b"%d" % len(self.body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if scope["path"] != "/whole":
            self.has_begun.set()
            await self.go_on.wait()
            if self.end == "raise":
                raise RuntimeError("between head and body")
            if self.end == "return":
                return
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class Served:
    """``connections`` are those that the server has."""

    def __init__(self, app: Crashing, port: int, connections: Collection[object], registry: CollectorRegistry) -> None:
        self.app = app
        self.port = port
        self.connections = connections
        self._registry = registry

    async def until_arriving(self, least: int, most: int) -> None:
        """Returns when so many bytes of heads are on their way."""
        await self._until("arriving", least, most)

    async def until_ahead(self, least: int, most: int) -> None:
        """Returns when so many bytes have come and are yet to be read."""
        await self._until("ahead", least, most)

    async def _until(self, gauge: str, least: int, most: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while not least <= (self._registry.get_sample_value(gauge) or 0) <= most:
                await asyncio.sleep(0.01)

    async def half(self, field: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client whose answer has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"POST /half HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n")
        async with asyncio.timeout(PATIENCE):
            await self.app.has_begun.wait()
        return reader, writer

    async def empty(self) -> None:
        """Returns when there is no connection any more."""
        async with asyncio.timeout(PATIENCE):
            while self.connections:
                await asyncio.sleep(0.01)

    async def whole(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            said = await reader.read()
        writer.close()
        return said


@asynccontextmanager
async def served(
    end: str | Crashing,
    *,
    keep_alive: int = 75,
    linger: float = 60,
    most_heads: int | None = None,
    most_ahead: int | None = None,
    most_waiting: int | None = None,
    turns: Turns | None = None,
    kind: type[Connection] = Connection,
) -> AsyncGenerator[Served, None]:
    """The server's connections around the application, in this loop. Nothing may be left that nobody caught."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    app = Crashing(end) if isinstance(end, str) else end
    config = uvicorn.Config(
        cast("Any", ObservedApp(app)),
        interface="asgi3",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
    )
    config.load()
    state = ServerState()
    times, cors = RequestTimes(5, 5, linger), Cors(())
    turns, room = turns or Turns(32), Room(most_waiting)
    registry = CollectorRegistry()
    heads = Backlog(most_heads, held=Gauge("arriving", "", registry=registry))
    backlog = Backlog(most_ahead, held=Gauge("ahead", "", registry=registry))

    def connection() -> Connection:
        return kind(
            config=config,
            server_state=state,
            app_state={},
            turns=turns,
            room=room,
            backlog=backlog,
            times=times,
            heads=heads,
            crumbs=Turns(CRUMBS_AT_ONCE),
            cors=cors,
        )

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)  # so that the kernel does not take it all
    server = await loop.create_server(connection, sock=listener)
    try:
        yield Served(app, server.sockets[0].getsockname()[1], state.connections, registry)
    finally:
        app.go_on.set()
        server.close()
        for one in list(state.connections):
            cast("Connection", one).transport.abort()  # or the loop would wait for it
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*state.tasks, return_exceptions=True)
        gc.collect()  # a task that failed unseen says so when it goes
        assert not errors


def as_in_production(check: Coroutine[Any, Any, None]) -> None:
    """Runs it on the loop that services have: what is written to a connection that is gone is an error there."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check)


def test_a_whole_answer() -> None:
    async def check() -> None:
        async with served("answer") as service:
            head, body = (await service.whole()).split(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == b"body"

    as_in_production(check())


@pytest.mark.parametrize("end", ["raise", "return"])
def test_who_waits_for_a_body_that_never_comes_is_told_by_the_end(end: str) -> None:
    async def check() -> None:
        async with served(end) as service:
            reader, writer = await service.half()
            service.app.go_on.set()
            async with asyncio.timeout(PATIENCE):
                head, body = (await reader.read()).split(b"\r\n\r\n")
            assert b"content-length: 4" in head  # so that nobody takes it for whole
            assert body == b""
            writer.close()
            assert b"body" in await service.whole()

    as_in_production(check())


@pytest.mark.parametrize("end", ["raise", "return", "answer"])
def test_nothing_is_written_to_who_has_left_meanwhile(end: str) -> None:
    async def check() -> None:
        async with served(end) as service:
            _, writer = await service.half()
            writer.transport.abort()
            await service.empty()
            service.app.go_on.set()
            assert b"body" in await service.whole()

    as_in_production(check())


def test_who_sends_a_bad_body_while_it_is_answered_is_left_alone() -> None:
    async def check() -> None:
        async with served("raise") as service:
            reader, writer = await service.half(b"Transfer-Encoding: chunked\r\n")
            writer.write(b"no size\r\n")
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()
            service.app.go_on.set()
            assert b"body" in await service.whole()

    as_in_production(check())


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
        self._turn = asyncio.Condition()
        self._left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            # Of who has left nothing is kept.
            await send(LARGE[large])
            await turns.until(1)
            before = len(service.connections)
            clients[-1][1].transport.abort()
            async with asyncio.timeout(PATIENCE):
                while len(service.connections) == before:
                    await asyncio.sleep(0.01)
            last = await send(LARGE[large])
            await turns.until(2)
            turns.go()
            async with asyncio.timeout(PATIENCE):
                assert (await last.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            for _, writer in clients:
                writer.close()

    as_in_production(check())


def cycles() -> int:
    return sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects())


def test_heads_on_their_way_are_bounded_and_the_slowest_makes_way() -> None:
    """A value is as large as it was sent, and a tiny field much larger."""

    async def check() -> None:
        async with served("answer", most_heads=20_000) as service:
            clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for number, field in enumerate((b"X: " + b"a" * 11_000, b"aa:bb\r\n" * 70, b"X: " + b"a" * 11_000)):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\n" + field)
                clients.append((reader, writer))
                if number < 2:
                    await service.until_arriving(11_000 * (number + 1), 12_000 * (number + 1))
                    await asyncio.sleep(0.3)  # longer than anybody may keep all that is held
            async with asyncio.timeout(PATIENCE):
                said = await clients[0][0].read()
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nretry-after: 1\r\n" in said
                assert b'"error":"overloaded"' in said
                for reader, writer in clients[1:]:
                    writer.write(b"\r\n\r\n")
                    assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            await service.until_arriving(0, 0)
            for _, writer in clients:
                writer.close()

    as_in_production(check())


@pytest.mark.parametrize("field", [b"X: ", b"X-Other: x\r\nX: "])
def test_trailers_on_their_way_are_bounded_as_heads_are(field: bytes) -> None:
    """Answered or not: whoever has the answer already is left."""

    async def check() -> None:
        async with served("answer", most_heads=20_000) as service:
            clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for number in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(b"POST /whole HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                async with asyncio.timeout(PATIENCE):
                    assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
                writer.write(b"2\r\n{}\r\n0\r\n" + field + b"a" * 15_000)
                clients.append((reader, writer))
                if number < 2:
                    await service.until_arriving(10_000 * (number + 1), 16_000 * (number + 1))
                    await asyncio.sleep(0.3)  # longer than anybody may keep all that is held
            async with asyncio.timeout(PATIENCE):
                assert await clients[0][0].read() == b""
                for reader, writer in clients[1:]:
                    writer.write(b"\r\n\r\nGET /whole HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            await service.until_arriving(0, 0)
            for _, writer in clients:
                writer.close()

    as_in_production(check())


def test_a_trailer_too_many_is_refused_before_its_request_is_answered() -> None:
    async def check() -> None:
        async with served("wait", most_heads=10_000) as service:
            clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for _ in range(2):
                reader, writer = await service.half(b"Transfer-Encoding: chunked\r\n")
                writer.write(b"0\r\nX: " + b"a" * 15_000)
                clients.append((reader, writer))
                await service.until_arriving(10_000, 16_000)
            answers = [asyncio.create_task(reader.read()) for reader, _ in clients]
            async with asyncio.timeout(PATIENCE):
                (refused,), (left,) = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
                assert refused.result().startswith(b"HTTP/1.1 503 ")
                assert b'"error":"overloaded"' in refused.result()
                for _, writer in clients:
                    writer.transport.abort()
                await asyncio.wait([left])
            await service.empty()
            await service.until_arriving(0, 0)

    as_in_production(check())


def test_what_comes_of_a_body_behind_a_long_extension_is_no_trailer() -> None:
    async def check() -> None:
        async with served("answer", most_heads=20_000) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(b"POST /whole HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;a=" + b"a" * 15_000)
            await service.until_arriving(10_000, 16_000)
            writer.write(b"\r\n{")
            await service.until_arriving(0, 0)
            writer.write(b"}\r\n0\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            writer.close()

    as_in_production(check())


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        (b"/whole", b"Connection: upgrade" + b"," * 60_000 + b"\r\nUpgrade: x", 200),
        (b"/" + b"%41" * 10_000, b"X: x", 414),
        (b"/" + b"%" * 30_000 + b"?q", b"X: x", 414),
        (b"/whole?" + b"%" * 30_000, b"X: x", 200),
    ],
    ids=["options", "a path", "a path of nothing", "a query"],
)
def test_a_head_costs_little_however_it_is_written(target: bytes, fields: bytes, status: int) -> None:
    async def check() -> None:
        async with served("answer") as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            with counted() as calls:
                writer.write(b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % (target, fields))
                async with asyncio.timeout(PATIENCE):
                    assert (await reader.readline()).startswith(b"HTTP/1.1 %d " % status)
            assert calls.count < 6_000
            writer.close()

    as_in_production(check())


def test_who_comes_when_there_are_too_many_heads_is_sent_away() -> None:
    async def check() -> None:
        async with served("answer", most_heads=5_000) as service:
            clients = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(8)]
            for _, writer in clients:
                writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5_000)
            answers = {asyncio.create_task(reader.readline()): writer for reader, writer in clients}
            async with asyncio.timeout(PATIENCE):
                while len(refused := [answer for answer in answers if answer.done()]) < 7:
                    await asyncio.sleep(0.01)
                assert {answer.result() for answer in refused} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
                (let_in,) = answers.keys() - refused
                answers[let_in].write(b"\r\n\r\n")
                assert (await let_in).startswith(b"HTTP/1.1 200 ")
            await service.until_arriving(0, 0)
            for writer in answers.values():
                writer.close()

    as_in_production(check())


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["stays", "closes"])
@pytest.mark.parametrize(
    ("crumbs", "count"),
    [(b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n", 40_000), (b"0\r\n" + b"a:b\r\n" * 12_000 + b"\r\n", 12_000)],
    ids=["body", "trailer"],
)
def test_what_comes_in_crumbs_does_not_have_a_turn_for_itself(crumbs: bytes, count: int, close: bytes) -> None:
    turn = 0
    pieces: Counter[int] = Counter()

    class Counting(Connection):
        def on_body(self, body: bytes) -> None:
            pieces[turn] += 1
            super().on_body(body)

        def on_header(self, name: bytes, value: bytes) -> None:
            pieces[turn] += self._part is BODY
            super().on_header(name, value)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def check() -> None:
        async with served("answer", kind=Counting) as service:
            counting = asyncio.create_task(count_turns())
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            head = b"POST /whole HTTP/1.1\r\nHost: h\r\n" + close + b"Transfer-Encoding: chunked\r\n\r\n"
            writer.write(head + crumbs)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
                if close:
                    assert await reader.read() == b""
                    await service.until_ahead(0, 0)
                    assert service.connections  # it lingers, until the client leaves
                else:
                    writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
                    assert pieces.total() == count
            assert max(pieces.values()) <= (CRUMBS_AT_ONCE + 1) * 1200
            writer.close()
            counting.cancel()

    as_in_production(check())


def test_nobody_who_has_a_body_left_to_send_is_waited_for_in_the_end() -> None:
    async def check() -> None:
        async with served("answer") as service:
            reader, writer = await service.half(b"Content-Length: 9\r\n")
            (connection,) = service.connections
            cast("Connection", connection).shutdown()
            service.app.go_on.set()
            async with asyncio.timeout(PATIENCE):
                assert (await reader.read()).endswith(b"body")
            await service.empty()
            writer.close()

    as_in_production(check())


@pytest.mark.parametrize("is_first", [True, False], ids=["refused before", "refused meanwhile"])
def test_nobody_who_was_refused_is_waited_for_in_the_end(*, is_first: bool) -> None:
    async def check() -> None:
        async with served("wait") as service:
            reader, writer = await service.half(b"Transfer-Encoding: chunked\r\n")
            (connection,) = service.connections
            if not is_first:
                cast("Connection", connection).shutdown()
            writer.write(b"no size\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            if is_first:
                cast("Connection", connection).shutdown()
            await service.empty()
            writer.close()

    as_in_production(check())


def test_who_takes_an_answer_slowly_has_his_time_when_he_has_taken_it() -> None:
    """He has a body left to send, as has another, who has taken his."""

    async def check() -> None:
        async with served("answer", linger=0.1) as service:
            service.app.body = b"x" * 8_000_000
            slow = socket.create_connection(("127.0.0.1", service.port))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
            slow.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=slow)
            writer.write(b"POST /whole HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            service.app.body = b"body"
            other, other_writer = await asyncio.open_connection("127.0.0.1", service.port)
            other_writer.write(b"POST /whole HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await other.read()).endswith(b"body")
                while len(service.connections) == 2:
                    await asyncio.sleep(0.01)
                # Time is over for the other one, who came later.
                writer.write(b"y" * 1000)
                assert b"content-length: 8000000" in head
                assert await reader.read() == b"x" * 8_000_000
            await service.empty()
            other_writer.close()
            writer.close()

    as_in_production(check())


def test_the_time_at_rest_is_not_for_a_request_that_began_before_it() -> None:
    async def check() -> None:
        async with served("answer") as service:
            reader, writer = await service.half(b"Content-Length: 0\r\n\r\nGET /half HTTP/1.1\r\nHost: h")
            (connection,) = service.connections
            async with asyncio.timeout(PATIENCE):
                service.app.go_on.set()
                await reader.readuntil(b"body")
                service.app.go_on.clear()
                service.app.has_begun.clear()
                writer.write(b"\r\n")
                await service.app.has_begun.wait()
            assert cast("Connection", connection).timeout_keep_alive_task is None
            writer.close()

    as_in_production(check())


def test_empty_lines_are_no_request_to_stay_for() -> None:
    async def check() -> None:
        async with served("answer", keep_alive=1) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
                writer.write(b"\r\n")
                assert await reader.read() == b""
            writer.close()

    as_in_production(check())
