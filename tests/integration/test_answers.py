"""What clients see of answers, begun or not, and of what they do meanwhile.

An answer's head waits for its body, so that both go at once: what clients see when nothing comes after it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import cast

import pytest

from shared.http.connection import CRUMBS_AT_ONCE, Connection
from shared.http.reading import BODY
from tests.integration.connections import PATIENCE, as_in_production, served
from tests.support.work import counted


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


def test_what_a_client_has_yet_to_take_can_be_asked_until_it_is_gone_and_then() -> None:
    async def check() -> None:
        async with served("answer") as service:
            _, writer = await service.half()
            (connection,) = cast("list[Connection]", list(service.connections))
            connection.transport.write(b"x" * 10_000_000)
            assert connection.untaken > connection.transport.get_write_buffer_size() > 0
            connection.transport.abort()
            for _ in range(5):
                assert connection.untaken == 0
                await asyncio.sleep(0)
            writer.close()

    as_in_production(check())
