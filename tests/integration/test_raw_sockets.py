"""Whatever comes over a socket: an answer in the contract's form or a clean close, and the service goes on.

Both services, as processes of their own. A client here writes bytes and reads what comes until the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from deploy.local import EmbeddedNats
from tests.integration.command.deployment import command_service
from tests.integration.command.deployment import running as running_commands
from tests.integration.query.service import running as running_query

TIMES = {"REQUEST_HEAD_SECONDS": "2", "REQUEST_BODY_SECONDS": "2"}
PATIENCE = 15.0
"""Seconds until a test gives up; nothing here takes so long."""
HEAD = b"GET /healthz HTTP/1.1\r\nHost: h\r\n"
HEALTHY = HEAD + b"\r\n"


class Target(NamedTuple):
    name: str
    port: int
    pid: int
    log: Path | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
async def command(event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("logs")
    service = command_service(folder, event_store_dsn, fresh_nats.url, **TIMES)
    async with running_commands(service):
        (log,) = folder.glob("*.log")
        assert service.pid is not None
        yield Target("command", service.port, service.pid, log)


@pytest.fixture(scope="module")
async def query(projection_dsn: str, fresh_nats: EmbeddedNats) -> AsyncIterator[Target]:
    variables = {"PROJECTION_DSN": projection_dsn, "NATS_URL": fresh_nats.url, "HEARTBEAT_SECONDS": "0.5", **TIMES}
    async with running_query(variables) as service:
        yield Target("query", service.port, service.pid, None)


@pytest.fixture(scope="module", autouse=True)
def stalled(command: Target) -> Iterator[int]:
    """The port of a client of the command service that takes nothing. Here first, because it is waited for last."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", command.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 1500)
        yield client.getsockname()[1]


@pytest.fixture(params=["command", "query"])
async def target(request: pytest.FixtureRequest, command: Target, query: Target) -> AsyncIterator[Target]:
    """Each of the services; whatever a test did to it, it answers others and has logged no crash."""
    target = command if request.param == "command" else query
    yield target
    await is_well(target)


async def is_well(target: Target) -> None:
    os.kill(target.pid, 0)
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        assert (await http.get(f"{target.url}/healthz")).status_code == 200
    if target.log is not None:
        text = target.log.read_text()
        assert "request_crashed" not in text
        assert "Traceback" not in text


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, status: int, error: str) -> None:
        assert (self.status, self.headers["content-type"]) == (status, "application/problem+json"), self
        said = json.loads(self.body)
        assert (said["status"], said["error"]) == (status, error)


@contextlib.asynccontextmanager
async def connected(target: Target) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def one(reader: asyncio.StreamReader) -> Answer:
    """The next answer."""
    async with asyncio.timeout(PATIENCE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        status = int(head[0].split(" ")[1])
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])}
        if status == 100:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"")
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the service ends the connection, which it has to."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def answers(target: Target, *pieces: bytes) -> list[Answer]:
    """Everything that is answered to these pieces before the service ends the connection."""
    async with connected(target) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        came: list[Answer] = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                came.append(await one(reader))
        return came


async def broken(target: Target, error: str) -> float:
    """How many requests were refused like that before they were whole."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        said = (await http.get(f"{target.url}/metrics")).text
    counted = re.search(rf'runroom_http_broken_requests_total{{error="{error}"}} (\S+)', said)
    assert counted is not None
    return float(counted[1])


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/runs") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: h", b"Content-Type: application/json", *headers, b"", b""]
    return b"\r\n".join(lines) + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


NO_REQUESTS = {
    "garbage": b"\x00\xff\x16\x03\x01\x02garbage\r\n\r\n",
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SMTP": b"EHLO mail\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/0.9, spelt out": b"GET /healthz HTTP/0.9\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\n\r\n",
    "HTTP/2.0 with a host": b"GET /healthz HTTP/2.0\r\nHost: h\r\n\r\n",
    "HTTP/2.0, with an upgrade": b"GET /healthz HTTP/2.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "HTTP/3.0": b"GET /healthz HTTP/3.0\r\nHost: h\r\n\r\n",
    "no version": b"GET /healthz HTTP/\r\n\r\n",
    "no such method": b"BREW /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    "NUL in a value": HEAD + b"X-A: a\0b\r\n\r\n",
    "CR in a value": HEAD + b"X-A: a\rb\r\n\r\n",
    "NUL in a name": HEAD + b"X\0A: b\r\n\r\n",
    "space in a name": HEAD + b"X A: b\r\n\r\n",
    "no colon": HEAD + b"nonsense\r\n\r\n",
    "line folding": HEAD + b"X-A: a\r\n b\r\n\r\n",
    "bare LF lines with a CR": HEAD + b"X-A: \x01\r\n\r\n",
    "length and chunks": post(b"0\r\n\r\n", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and length": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "two lengths": post(b"{}{}", b"Content-Length: 2", b"Content-Length: 4"),
    "negative length": post(b"{}", b"Content-Length: -2"),
    "length with a sign": post(b"{}", b"Content-Length: +2"),
    "endless length": post(b"{}", b"Content-Length: 99999999999999999999999"),
    "no number": post(b"{}", b"Content-Length: two"),
    "a coding before chunks": post(chunked(b"{}") + b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"),
    "a coding of its own": post(
        chunked(b"{}") + b"0\r\n\r\n", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"
    ),
    "chunked twice": post(chunked(b"{}") + b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "an unknown coding": post(b"{}", b"Transfer-Encoding: chunked, gzip"),
    "authority form": b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a URI that is none": b"GET http://[::1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a port that is none": b"GET /healthz HTTP/1.1\r\nHost: h:abc\r\n\r\n",
    "two ports": b"GET /healthz HTTP/1.1\r\nHost: h:80:80\r\n\r\n",
    "a user in the host": b"GET /healthz HTTP/1.1\r\nHost: a@h\r\n\r\n",
    "a fragment": b"GET /healthz#a HTTP/1.1\r\nHost: h\r\n\r\n",
    "two hosts": HEAD + b"host: h\r\n\r\n",
    "two hosts, HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n",
    "no host, with an upgrade": b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_what_is_no_request_is_a_problem_and_the_end(target: Target, sent: bytes) -> None:
    (answer,) = await answers(target, sent)
    answer.problem(400, "invalid_request")
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]


async def test_one_refused_within_its_body_goes_by_one_id(command: Target) -> None:
    (answer,) = await answers(command, post(b"{", b"Content-Length: 9"))
    answer.problem(408, "request_timeout")
    assert command.log is not None
    async with asyncio.timeout(PATIENCE):
        while answer.headers["x-request-id"] not in command.log.read_text():
            await asyncio.sleep(0.05)


async def test_one_that_is_answered_is_not_counted_as_refused(target: Target) -> None:
    before = await broken(target, "request_timeout")
    async with connected(target) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 9\r\n\r\n")
        assert (await one(reader)).status == 200
        assert await ended(reader) == b""
    assert await broken(target, "request_timeout") == before


@pytest.mark.parametrize("given", [b"mine", b"not\tmine", None])
async def test_it_goes_by_the_id_it_was_given_and_is_counted(target: Target, given: bytes | None) -> None:
    before = await broken(target, "headers_too_large")
    field = b"" if given is None else b"X-Request-Id: " + given + b"\r\n"
    (answer,) = await answers(target, HEAD + field + b"X: a\r\n" * 101 + b"\r\n")
    answer.problem(431, "headers_too_large")
    assert (answer.headers["x-request-id"] == "mine") is (given == b"mine")
    assert await broken(target, "headers_too_large") == before + 1


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_it_is_the_same_byte_by_byte(target: Target, sent: bytes) -> None:
    (answer,) = await answers(target, *(sent[at : at + 1] for at in range(len(sent))))
    answer.problem(400, "invalid_request")


# Heads: size and time


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (HEAD + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (HEAD + b"X-A: " + b"a" * 5_000_000, 431, "headers_too_large"),
        (HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n", 431, "headers_too_large"),
        (HEAD + b"X-A: a\r\n" * 100_000 + b"\r\n", 431, "headers_too_large"),
        (HEAD + b"X" * 1_000_000, 431, "headers_too_large"),
        (b"GET /healthz?" + b"q" * 40_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"q" * 2_000_000, 431, "headers_too_large"),
        (b"GET /healthz" + b"%41" * 700 + b"?q HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"),
    ],
    ids=[
        "a value",
        "an endless value",
        "101 fields",
        "100,000 fields",
        "an endless name",
        "a URI",
        "an endless URI",
        "a path",
    ],
)
@pytest.mark.parametrize("piece", [10_000_000, 4096])
async def test_a_head_beyond_the_limits(target: Target, sent: bytes, status: int, error: str, piece: int) -> None:
    came = await answers(target, *(sent[at : at + piece] for at in range(0, len(sent), piece)))
    assert len(came) <= 1
    for answer in came:  # who goes on sending may find the connection closed before it has read
        answer.problem(status, error)


async def test_a_field_too_many_is_refused_before_the_head_ends(target: Target) -> None:
    """It would not be whole for as long as a head may take, and tiny fields are much larger as objects."""
    tiny = HEAD + b"aa:bb\r\n" * 9000
    before = resident(target.pid)
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(60):
            reader, writer = await clients.enter_async_context(connected(target))
            writer.write(tiny)
            (await one(reader)).problem(431, "headers_too_large")
        # Each would have 1.2 MB.
        assert resident(target.pid) - before < 60 * 200 * 1024


@pytest.mark.parametrize("more", [b"", b"Content-Length: 9\r\n"], ids=["at rest", "a body left to send"])
async def test_a_head_is_not_kept_once_it_is_answered(target: Target, more: bytes) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 650) for n in range(90))
    before = resident(target.pid)
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(400):
            reader, writer = await clients.enter_async_context(connected(target))
            writer.write(HEAD + fields + more + b"\r\n")
            assert (await one(reader)).status == 200
        assert resident(target.pid) - before < 400 * 25 * 1024


async def test_heads_within_the_limits(target: Target) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 600) for n in range(90))
    (answer,) = await answers(target, HEAD + fields + b"Connection: close\r\n\r\n")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Accept: " + b"," * 60_000, 400),
        (b"Accept: " + b"*/*;q=1," * 7_500, 400),
        (b"Host: " + b"h" * 60_000, 400),
        (b"Connection: upgrade" + b"," * 60_000 + b"close\r\nUpgrade: x", 200),
        (b"Cookie: " + b";" * 60_000, 200),
    ],
    ids=["nothing accepted", "everything accepted", "a host", "options", "cookies"],
)
async def test_a_field_of_many_pieces(target: Target, fields: bytes, status: int) -> None:
    path = b"/v1/runs" if target.name == "query" else b"/healthz"
    host = b"" if fields.startswith(b"Host") else b"Host: h\r\n"
    if target.name == "command" and fields.startswith(b"Accept"):
        sent = post(b"{}", fields)
    else:
        sent = b"GET %b HTTP/1.1\r\n%b%b\r\nConnection: close\r\n\r\n" % (path, host, fields)
    (answer,) = await answers(target, sent)
    assert answer.status == status
    if status == 400:
        answer.problem(400, "invalid_request")


async def test_many_requests_in_one_piece_are_no_large_head(target: Target) -> None:
    filler = b"X-A: " + b"a" * 1000 + b"\r\n"
    whole = (HEAD + filler + b"\r\n") * 120
    async with connected(target) as (reader, writer):
        writer.write(whole + HEAD)
        for _ in range(120):
            assert (await one(reader)).status == 200
        writer.write(b"\r\n")
        assert (await one(reader)).status == 200


async def test_who_dribbles_a_head_is_not_waited_for(target: Target) -> None:
    async with connected(target) as (reader, writer):

        async def dribble() -> None:
            with contextlib.suppress(ConnectionError):
                for byte in HEAD + b"X-Slow: " + b"a" * 1000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.1)

        dribbling = asyncio.create_task(dribble())
        (await one(reader)).problem(408, "request_timeout")
        assert await ended(reader) == b""
        dribbling.cancel()


async def test_who_says_nothing_is_not_waited_for(target: Target) -> None:
    async with connected(target) as (reader, _):
        assert await ended(reader) == b""


async def test_a_used_connection_may_rest_longer_than_a_head_may_take(target: Target) -> None:
    async with connected(target) as (reader, writer):
        writer.write(HEALTHY)
        await one(reader)
        await asyncio.sleep(3)
        writer.write(HEALTHY)
        assert (await one(reader)).status == 200
        writer.write(HEAD)
        (await one(reader)).problem(408, "request_timeout")


async def test_a_thousand_slow_clients_keep_nobody_out(target: Target) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    try:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(target)) for _ in range(1000)]
            for _, writer in clients:
                writer.write(HEAD)
            await is_well(target)
            for reader, _ in clients:
                assert b" 408 " in await ended(reader)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Forms of requests that are fine


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET http://elsewhere/healthz HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n",
        b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Obs: caf\xe9\r\n\r\n",
    ],
    ids=["HTTP/1.0", "absolute form", "empty lines before", "bytes in a value"],
)
async def test_unusual_requests(target: Target, sent: bytes) -> None:
    (answer,) = await answers(target, sent)
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("method", [b"OPTIONS *", b"TRACE /healthz", b"OPTIONS /healthz", b"HEAD /nothing"])
async def test_methods_that_are_not_here(target: Target, method: bytes) -> None:
    async with connected(target) as (reader, writer):
        writer.write(method + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            status = int((await reader.readuntil(b"\r\n")).split()[1])
        assert status in {204, 404, 405}


@pytest.mark.parametrize(
    "path",
    [b"/healthz/", b"//healthz", b"/healthz//", b"/%2Fhealthz", b"/healthz%2f", b"/schema%2Fopenapi.json",
     b"/schema//openapi.json", b"http://h/schema//openapi.json"],
)  # fmt: skip
async def test_a_path_has_one_form(target: Target, path: bytes) -> None:
    async with connected(target) as (reader, writer):
        writer.write(HEAD.replace(b"/healthz", path + b"?a=//") + b"\r\n" + HEALTHY.replace(b" HTTP", b"?a=%2F/ HTTP"))
        answer = await one(reader)
        answer.problem(404, "not_found")
        assert answer.headers["x-request-id"]
        assert json.loads(answer.body)["instance"] == path.removeprefix(b"http://h").decode()
        assert (await one(reader)).status == 200


async def test_a_command_has_one_path(command: Target) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        run_id = (await http.post(f"{command.url}/v1/runs", json={"room_id": "paths"})).json()["run_id"]
    for path in ("%2Fstart", "%2fstart", "//start", "/start/"):
        (answer,) = await answers(
            command, post(b"", b"Content-Length: 0", b"Connection: close", path=f"/v1/runs/{run_id}{path}".encode())
        )
        answer.problem(404, "not_found")
    assert await seq_of(command, "paths") == 2


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.2"])
async def test_an_upgrade_nobody_grants(target: Target, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with connected(target) as (reader, writer):
        writer.write((HEAD + upgrade + b"\r\n") * 2)
        assert [(await one(reader)).status, (await one(reader)).status] == [200, 200]


UPGRADE = b"Connection: upgrade\r\nUpgrade: x\r\n"


async def test_thousands_of_upgrades_at_once_are_answered_in_order(target: Target) -> None:
    requests = [
        HEAD.replace(b"/healthz", b"/healthz" if number % 3 else b"/nothing") + UPGRADE + b"\r\n"
        for number in range(3500)
    ]
    async with connected(target) as (reader, writer):
        writer.write(b"".join(requests))
        statuses = [(await one(reader)).status for _ in requests]
        assert statuses == [200 if number % 3 else 404 for number in range(3500)]


async def test_an_upgrade_amid_other_requests(command: Target) -> None:
    body = b'{"room_id":"amid"}'
    whole = post(body, b"Content-Length: %d" % len(body))
    asking = post(chunked(body) + b"0\r\n\r\n", b"Transfer-Encoding: chunked", UPGRADE.rstrip())
    async with connected(command) as (reader, writer):
        writer.write(whole + asking + whole + asking + asking + whole)
        assert [json.loads((await one(reader)).body)["stream_seq"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "sent",
    [
        HEALTHY.replace(b"/1.1", b"/1.0").replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n"),
        HEAD + UPGRADE.replace(b"upgrade", b"upgrade, Close") + b"\r\n",
        HEAD + UPGRADE + b"Connection: close\r\n\r\n",
    ],
    ids=["HTTP/1.0", "close in a list", "close in another field"],
)
async def test_who_wants_an_end_gets_it_with_an_upgrade_as_well(target: Target, sent: bytes) -> None:
    (answer,) = await answers(target, sent)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_a_body_with_an_upgrade_is_that_of_its_request(command: Target) -> None:
    """As Java's client and ``curl --http2`` send each POST."""
    body = b'{"room_id":"upgraded"}'
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: %d" % len(body))
    async with connected(command) as (reader, writer):
        sent = post(body, *fields)
        for piece in (sent, sent[:-30], sent[-30:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        for stream_seq in (1, 2):
            answer = await one(reader)
            assert (answer.status, json.loads(answer.body)["stream_seq"]) == (201, stream_seq)


# Bodies of commands


async def seq_of(target: Target, room: str) -> int:
    """The next position of the room: how many commands it has taken, and one."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        return (await http.post(f"{target.url}/v1/runs", json={"room_id": room})).json()["stream_seq"]


async def test_a_chunked_body(command: Target) -> None:
    body = chunked(b'{"room_id":', b'"chunked"}') + b"0\r\n\r\n"
    for coding in (b"chunked", b" Chunked "):
        (answer,) = await answers(command, post(body, b"Transfer-Encoding: " + coding, b"Connection: close"))
        assert answer.status == 201


@pytest.mark.parametrize("around", [b" ", b"  ", b"\t", b" \t "], ids=["a blank", "two", "a tab", "both"])
async def test_white_space_around_a_value_is_no_part_of_it(command: Target, around: bytes) -> None:
    """RFC 9112, 5.1. With it, one key would be several, and a command sent again another one."""
    body = b'{"room_id":"white-space","title":"%b"}' % around.hex().encode()
    key = b"white-space-" + around.hex().encode()
    came = [
        (await answers(command, post(body, *fields, b"Content-Length: %d" % len(body), b"Connection: close")))[0]
        for fields in (
            [b"Idempotency-Key: " + key],
            [b"Idempotency-Key:" + around + key],
            [b"Idempotency-Key: " + key + around, b"x-workspace-id: ws_dev" + around, b"x-request-id: id" + around],
        )
    ]
    assert [answer.status for answer in came] == [201] * 3
    assert len({answer.body for answer in came}) == 1
    assert came[-1].headers["x-request-id"] == "id"


BAD = b"bad-chunks"


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}xx0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}",
        b"1\r\n{}\r\n0\r\n\r\n",
        chunked(b'{"room_id":"%s"}' % BAD) + b"x\r\n\r\n",
    ],
    ids=["no size", "negative", "no end", "beyond 64 bits", "too short", "after a whole body"],
)
async def test_bad_chunks(command: Target, body: bytes) -> None:
    before = await seq_of(command, BAD.decode())
    (answer,) = await answers(command, post(body, b"Transfer-Encoding: chunked"))
    answer.problem(400, "invalid_request")
    await is_well(command)
    assert await seq_of(command, BAD.decode()) == before + 1


async def test_a_chunked_body_beyond_the_limit(command: Target) -> None:
    pieces = [chunked(b" " * 65_536)] * 40
    came = await answers(command, post(b"", b"Transfer-Encoding: chunked"), *pieces)
    assert len(came) <= 1
    for answer in came:
        answer.problem(413, "body_too_large")
    await is_well(command)


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"a: x\r\n" * 500_000, b"0\r\na: " + b"x" * 3_000_000, b"2;a=" + b"x" * 3_000_000],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
async def test_what_comes_beside_a_body_is_bounded(command: Target, endless: bytes) -> None:
    pieces = (endless[at : at + 65_536] for at in range(0, len(endless), 65_536))
    came = await answers(command, post(chunked(b"{}"), b"Transfer-Encoding: chunked"), *pieces)
    (answer,) = came
    answer.problem(431, "headers_too_large")
    await is_well(command)


def resident_megabytes(target: Target) -> int:
    (line,) = [line for line in Path(f"/proc/{target.pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


@pytest.mark.parametrize("path", [b"/v1/runs", b"/nothing"], ids=["waiting", "answered"])
async def test_trailers_are_not_kept(command: Target, path: bytes) -> None:
    before = resident_megabytes(command)
    async with connected(command) as (_, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(post(chunked(b"{}") + b"0\r\n", b"Transfer-Encoding: chunked", path=path))
            for _ in range(80):
                writer.write(b"a-trailer: of some length\r\n" * 10_000)
                await writer.drain()
        assert resident_megabytes(command) < before + 50
    await is_well(command)


async def test_a_trailer_does_not_say_what_becomes_of_the_connection(command: Target) -> None:
    """The parser would hear nothing after it, and the connection stay as it is for ever."""
    sent = post(chunked(b'{"room_id":"end"}') + b"0\r\nConnection: close\r\n\r\n", b"Transfer-Encoding: chunked")
    (answer,) = await answers(command, sent, HEALTHY)
    answer.problem(400, "invalid_request")


async def test_what_comes_beside_a_body_is_refused(command: Target) -> None:
    pieces = [b"0\r\na: ", b"x" * 40_000, b"x" * 40_000]
    async with connected(command) as (reader, writer):
        writer.write(post(chunked(b'{"room_id":"beside"}'), b"Transfer-Encoding: chunked"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        (await one(reader)).problem(431, "headers_too_large")
        assert await ended(reader) == b""


async def test_a_body_in_many_small_chunks_is_within_the_limits(command: Target) -> None:
    """Sizes and ends of chunks are more than the limit together; no body has so much between two of its pieces."""
    body = b'{"room_id":"crumbs","title":"%b"}' % (b"a" * 200)
    crumbs = chunked(*(b"%c" % byte for byte in body.replace(b"{", b"{" + b" " * 30_000)))
    async with connected(command) as (reader, writer):
        sent = post(crumbs + b"0\r\nX-Checksum: 1\r\n\r\n", b"Transfer-Encoding: chunked")
        for at in range(0, len(sent), 30_000):
            writer.write(sent[at : at + 30_000])
            await writer.drain()
        assert (await one(reader)).status == 201
        writer.write(HEALTHY)
        assert (await one(reader)).status == 200


@pytest.mark.parametrize("pieces", [1, 2], ids=["at once", "after the body"])
async def test_trailers_are_no_headers(command: Target, pieces: int) -> None:
    """RFC 9110, 6.5.1: they are not merged, whatever they say."""
    trailers = (
        b"0\r\nX-Workspace-Id: ../no\r\nIdempotency-Key: once\r\nX-Actor-Id: \xff\r\n"
        b"Authorization: Bearer none\r\nHost: h\r\nUpgrade: x\r\n\r\n"
    )
    room = f"trailers-{pieces}"
    sent = post(chunked(b'{"room_id":"%b"}' % room.encode()), b"Transfer-Encoding: chunked")
    async with connected(command) as (reader, writer):
        for stream_seq in (1, 2):
            writer.write(sent + (trailers if pieces == 1 else b""))
            if pieces == 2:
                await asyncio.sleep(0.05)
                writer.write(trailers)
            answer = await one(reader)
            assert (answer.status, json.loads(answer.body)["stream_seq"]) == (201, stream_seq)
    assert await seq_of(command, room) == 3


async def test_a_body_that_is_too_large_is_not_asked_for(command: Target) -> None:
    async with connected(command) as (reader, writer):
        writer.write(post(b"", b"Content-Length: 2000000", b"Expect: 100-continue"))
        (await one(reader)).problem(413, "body_too_large")


async def test_a_body_that_is_waited_for_is_asked_for(command: Target) -> None:
    body = b'{"room_id":"expected"}'
    async with connected(command) as (reader, writer):
        writer.write(post(b"", b"Content-Length: %d" % len(body), b"Expect: 100-continue"))
        assert (await one(reader)).status == 100
        writer.write(body)
        assert (await one(reader)).status == 201


@pytest.mark.parametrize("body", [b"zz\r\n", b"2\r\n{}\r\n0\r\nConnection: close\r\n\r\n"])
async def test_a_body_that_was_refused_as_it_came_is_not_asked_for(command: Target, body: bytes) -> None:
    sent = post(body, b"Transfer-Encoding: chunked", b"Expect: 100-continue")
    assert [answer.status for answer in await answers(command, sent)] == [400]
    await is_well(command)


async def test_streams_that_were_refused_before_their_turn_do_not_begin(query: Target) -> None:
    sent = b"GET /v1/streams/rooms/zz HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    came = await asyncio.gather(*(answers(query, sent) for _ in range(150)))
    assert {tuple(answer.status for answer in some) for some in came} == {(400,)}
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        text = (await http.get(f"{query.url}/metrics")).text
    assert not re.search(r'room_id.*status="5xx".* [1-9]', text)


@pytest.mark.parametrize("sent", [b"POST /v1/nowhere", b"POST /healthz"], ids=["404", "405"])
async def test_a_body_that_is_not_asked_for_is_not_waited_for(command: Target, sent: bytes) -> None:
    """It may come or not: what follows is no request for sure."""
    async with connected(command) as (reader, writer):
        writer.write(sent + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\nExpect: 100-continue\r\n\r\n")
        answer = await one(reader)
        assert answer.status in {404, 405}
        assert answer.headers["connection"] == "close"
        assert await ended(reader) == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"", b"Content-Length: 8000000", b"Connection: close"), 413),
        (post(b"", b"Content-Length: 8000000").replace(b"HTTP/1.1", b"HTTP/1.0"), 413),
        (post(b"", b"Content-Length: 8000000", b"Expect: 100-continue"), 413),
        (post(b"", b"Content-Length: 8000000", b"Connection: close", path=b"/v1/nowhere"), 404),
        (HEAD.replace(b"GET", b"HEAD") + b"Content-Length: 8000000\r\nConnection: close\r\n\r\n", 405),
    ],
    ids=["close", "1.0", "expect", "nowhere", "head"],
)
async def test_who_sends_all_of_a_body_before_it_reads_is_answered(command: Target, sent: bytes, status: int) -> None:
    """The answer is there before most of the body, and what is sent to a connection that is closed is refused."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", command.port)) as client:
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(client, sent)
            has_come = asyncio.Event()
            loop.add_reader(client, has_come.set)
            await has_come.wait()
            loop.remove_reader(client)
            await loop.sock_sendall(client, b" " * 8_000_000)
            came = b""
            while piece := await loop.sock_recv(client, 65_536):
                came += piece
        assert came.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in came


async def test_who_sends_a_body_for_ever_is_not_heard_for_ever(command: Target) -> None:
    async with connected(command) as (reader, writer):
        writer.write(post(b"", b"Content-Length: 10000000000000", b"Connection: close"))
        (await one(reader)).problem(413, "body_too_large")
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b" " * 1000)
                    await writer.drain()
                    await asyncio.sleep(0.01)


async def test_a_body_that_was_not_asked_for_is_not_kept(command: Target) -> None:
    before = resident(command.pid)
    async with contextlib.AsyncExitStack() as clients:
        for number in range(100):
            reader, writer = await clients.enter_async_context(connected(command))
            close = [b"Connection: close"] if number % 2 else []
            writer.write(post(b"x" * 300_000, b"Content-Length: 400000", *close, path=b"/v1/nowhere"))
            assert (await one(reader)).status == 404
        assert resident(command.pid) - before < 100 * 40_000


async def test_a_port_that_cannot_be_is_still_a_host(command: Target) -> None:
    for key in (b"", b"Idempotency-Key: a port\r\n"):
        body = b'{"room_id":"ports"}'
        head = b"POST /v1/runs HTTP/1.1\r\nHost: h:99999\r\n" + key + b"Content-Length: %d\r\n" % len(body)
        (answer,) = await answers(command, head + b"Connection: close\r\n\r\n" + body)
        assert answer.status == 201


async def test_a_client_of_http_1_0_is_sent_no_interim_answer(command: Target) -> None:
    """It would take that for the answer (RFC 9110, 10.1.1)."""
    body = b'{"room_id":"expected-older"}'
    head = post(b"", b"Content-Length: %d" % len(body), b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    (answer,) = await answers(command, head, body)
    assert answer.status == 201


async def test_a_client_of_http_1_0_is_sent_no_stream(query: Target) -> None:
    """It does not know chunks (RFC 9112, 6.1)."""
    (answer,) = await answers(query, b"GET /v1/streams/rooms/r HTTP/1.0\r\n\r\n")
    answer.problem(400, "invalid_request")
    assert answer.headers["connection"] == "close"
    assert "HTTP/1.1" in json.loads(answer.body)["detail"]


async def test_a_body_that_does_not_come(command: Target) -> None:
    async with connected(command) as (reader, writer):
        writer.write(post(b'{"room_id":', b"Content-Length: 100"))
        (await one(reader)).problem(408, "request_timeout")
        assert await ended(reader) == b""
    await is_well(command)


@pytest.mark.parametrize("leave", [socket.SHUT_WR, socket.SHUT_RDWR], ids=["half closed", "closed"])
async def test_who_leaves_in_the_midst_of_a_body(command: Target, leave: int) -> None:
    async with connected(command) as (reader, writer):
        writer.write(post(b'{"room_id":"left-%d"' % leave, b"Content-Length: 100"))
        await writer.drain()
        writer.get_extra_info("socket").shutdown(leave)
        assert await ended(reader) == b""
    await is_well(command)
    assert await seq_of(command, f"left-{leave}") == 1


@pytest.mark.parametrize(
    "name", ["Content-Type", "Idempotency-Key", "Last-Event-ID", "x-workspace-id", "x-actor-type", "x-actor-id"]
)  # fmt: skip
@pytest.mark.parametrize("second", [b"user", b"agent"], ids=["the same", "another"])
async def test_what_has_one_value_is_sent_once(command: Target, query: Target, name: str, second: bytes) -> None:
    target, method = (query, b"GET /v1/streams/rooms/r") if name == "Last-Event-ID" else (command, b"POST /v1/runs")
    body = b'{"room_id":"once"}'
    fields = (
        b"Host: h", b"Connection: close", b"Content-Length: %d" % len(body),
        name.encode() + b": user", name.upper().encode() + b": " + second,
    )  # fmt: skip
    (answer,) = await answers(target, b"\r\n".join((method + b" HTTP/1.1", *fields, b"", body)))
    answer.problem(400, "invalid_request")
    assert json.loads(answer.body)["detail"] == f"{name}: sent more than once"


# One after the other


async def test_answers_come_in_the_order_of_requests(command: Target) -> None:
    bodies = [b'{"room_id":"pipelined","title":"%d"}' % number for number in range(20)]
    async with connected(command) as (reader, writer):
        writer.write(b"".join(post(body, b"Content-Length: %d" % len(body)) for body in bodies))
        assert [json.loads((await one(reader)).body)["stream_seq"] for _ in bodies] == list(range(1, 21))


def resident(pid: int) -> int:
    """Bytes."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


async def test_requests_sent_ahead_are_kept_as_they_came(target: Target) -> None:
    """As requests they would be 300 KiB, and who takes no answers has them kept."""
    ahead = b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n" * 500
    before = resident(target.pid)
    with contextlib.ExitStack() as clients:
        for _ in range(300):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            client.connect(("127.0.0.1", target.port))
            client.sendall(ahead)
        await is_well(target)
        assert resident(target.pid) - before < 300 * 100 * 1024


async def metric(target: Target, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        text = (await http.get(f"{target.url}/metrics")).text
    (value,) = re.findall(rf"^{name} (.*)$", text, re.MULTILINE)
    return float(value)


STREAM = b"GET /v1/streams/rooms/r HTTP/1.1\r\nHost: h\r\n\r\n"
WAIT = b"GET /v1/runs?room_id=r&min_seq=9&wait=1500 HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("first", [STREAM, WAIT], ids=["stream", "wait"])
@pytest.mark.parametrize(
    "behind",
    [
        post(b"x" * 120_000, b"Content-Length: 120000"),
        post(chunked(*[b"x" * 1000] * 120), b"Transfer-Encoding: chunked"),
        (HEAD + b"X-A: " + b"a" * 60_000 + b"\r\n\r\n") * 2,
    ],
    ids=["body", "chunks", "heads"],
)
async def test_what_is_behind_one_that_takes_long_is_counted(query: Target, first: bytes, behind: bytes) -> None:
    """All of it in one send, before anybody has begun to answer."""
    before = resident(query.pid)
    with contextlib.ExitStack() as clients:
        for _ in range(200):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 * 1024)
            client.connect(("127.0.0.1", query.port))
            client.setblocking(False)
            client.send(first + behind)
            await asyncio.sleep(0)
        await is_well(query)
        counted = await metric(query, "runroom_http_backlog_bytes")
        assert counted > 200 * 10_000
        assert resident(query.pid) - before - counted < 200 * 50_000
    async with asyncio.timeout(PATIENCE):
        while await metric(query, "runroom_http_backlog_bytes"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("size", [10, 300_000])
async def test_bodies_behind_bodies(command: Target, size: int) -> None:
    """Whole or in chunks, at once or in pieces that end anywhere."""
    body = b'{"room_id":"behind-%d","title":"%b"}' % (size, b"a" * size)
    plain = post(body, b"Content-Length: %d" % len(body))
    in_chunks = post(chunked(body[:7], body[7:]) + b"0\r\n\r\n", b"Transfer-Encoding: chunked")
    sent = (plain + in_chunks) * 3
    async with connected(command) as (reader, writer):
        for piece, count in ((len(sent), 1), (len(sent) // 7, 2)):
            for at in range(0, len(sent), piece):
                writer.write(sent[at : at + piece])
                await asyncio.sleep(0)
            stream_seqs = [json.loads((await one(reader)).body)["stream_seq"] for _ in range(6)]
            assert stream_seqs == list(range(6 * count - 5, 6 * count + 1))


async def test_a_body_that_looks_like_heads(command: Target) -> None:
    """One that is cut where they would end, and one with as many requests behind it as there were such places."""
    body = b'{"room_id":"heads",' + b"\r\n\r\n" * 50_000 + b'"title":"a"}'
    async with connected(command) as (reader, writer):
        writer.write(post(body, b"Content-Length: %d" % len(body)) + HEALTHY * 200)
        assert [(await one(reader)).status for _ in range(201)] == [201, *([200] * 200)]
        writer.write(post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), b"Transfer-Encoding: chunked") + HEALTHY)
        assert [(await one(reader)).status for _ in range(2)] == [201, 200]


@pytest.mark.parametrize(
    "after",
    [b"garbage\r\n\r\n", post(b"zz\r\n", b"Transfer-Encoding: chunked"), HEAD + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n"],
    ids=["garbage", "a bad body", "a large head"],
)
async def test_what_is_wrong_never_answers_for_what_came_before(command: Target, after: bytes) -> None:
    body = b'{"room_id":"before-%d"}' % len(after)
    whole = post(body, b"Content-Length: %d" % len(body))
    came = await answers(command, whole + whole + after)
    assert [answer.status for answer in came[:2]] == [201, 201]
    assert len(came) <= 3
    for answer in came[2:]:
        assert answer.headers["content-type"] == "application/problem+json"
    await is_well(command)


async def test_a_large_head_that_begins_behind_another_request(command: Target) -> None:
    head = HEALTHY[:-2] + b"X-A: " + b"a" * 66_000 + b"\r\n\r\n"
    for cut in (1_000, 60_000):
        async with connected(command) as (reader, writer):
            writer.write(HEALTHY + head[:cut])
            assert (await one(reader)).status == 200
            writer.write(head[cut:])
            (await one(reader)).problem(431, "headers_too_large")
            assert await ended(reader) == b""
    await is_well(command)


async def test_a_head_that_begins_behind_a_large_body(command: Target) -> None:
    body = b'{"room_id":"large","input":{"text":"%b"}}' % (b"a" * 300_000)
    first = post(body, b"Content-Length: %d" % len(body))
    async with connected(command) as (reader, writer):
        writer.write(first[:150_000])
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.write(first[150_000:] + HEALTHY[:20])
        assert (await one(reader)).status == 201
        writer.write(HEALTHY[20:])
        assert (await one(reader)).status == 200
    await is_well(command)


async def test_what_is_wrong_does_not_end_a_stream_in_its_midst(query: Target) -> None:
    async with connected(query) as (reader, writer):
        writer.write(b"GET /v1/streams/rooms/r HTTP/1.1\r\nHost: h\r\n\r\ngarbage\r\n\r\n" + HEALTHY)
        assert (await one(reader)).headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(PATIENCE):
            came = await reader.readuntil(b"event: caught-up")
        assert b"HTTP/1.1" not in came
        writer.write(b"more garbage\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write_eof()
        assert b"HTTP/1.1" not in await ended(reader)
    await is_well(query)


async def open_streams(query: Target) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        (line,) = [
            line for line in (await http.get(f"{query.url}/metrics")).text.splitlines()
            if line.startswith("runroom_query_streams_open ")
        ]  # fmt: skip
    return line


@pytest.mark.parametrize("leave", [socket.SHUT_WR, socket.SHUT_RDWR], ids=["half closed", "closed"])
@pytest.mark.parametrize("behind", [b"", post(b"x" * 10_000, b"Content-Length: 10000")], ids=["alone", "a body behind"])
async def test_who_leaves_a_stream_is_forgotten(query: Target, leave: int, behind: bytes) -> None:
    async with connected(query) as (reader, writer):
        writer.write(STREAM + behind)
        await one(reader)
        writer.get_extra_info("socket").shutdown(leave)
        await ended(reader)
    async with asyncio.timeout(PATIENCE):
        while await open_streams(query) != "runroom_query_streams_open 0.0":
            await asyncio.sleep(0.05)


async def test_what_comes_with_a_stream_is_not_kept(query: Target) -> None:
    before = resident(query.pid)
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(100):
            reader, writer = await clients.enter_async_context(connected(query))
            writer.write(b"GET /v1/streams/rooms/r HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n")
            writer.write(b"a" * 500_000)
            await writer.drain()
            await one(reader)
        assert resident(query.pid) - before < 100 * 150_000


async def test_a_stream_outlives_the_times_of_requests(query: Target) -> None:
    async with connected(query) as (reader, writer):
        writer.write(b"GET /v1/streams/rooms/r HTTP/1.1\r\nHost: h\r\n\r\n")
        await one(reader)
        await asyncio.sleep(4)
        assert await open_streams(query) == "runroom_query_streams_open 1.0"


async def test_a_body_nobody_asked_for_is_not_waited_for(query: Target) -> None:
    async with connected(query) as (reader, writer):
        writer.write(b"GET /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
        assert (await one(reader)).status == 200
        assert await ended(reader) == b""


async def test_who_takes_nothing_is_dropped(command: Target, stalled: int) -> None:
    def is_held() -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[1].endswith(f":{command.port:04X}") and row[2].endswith(f":{stalled:04X}") for row in rows)

    async with asyncio.timeout(60):
        while is_held():
            await asyncio.sleep(0.2)
    await is_well(command)


def test_the_table_of_limits_has_these() -> None:
    """So that who changes one finds where it is said."""
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    for name in ("REQUEST_HEAD_SECONDS", "REQUEST_BODY_SECONDS", "headers_too_large", "uri_too_long"):
        assert name in text


async def test_what_was_answered_is_not_lost_because_the_client_has_more_to_say(command: Target) -> None:
    body = b'{"room_id":"unread"}'
    whole = post(body, b"Content-Length: %d" % len(body))
    async with connected(command) as (reader, writer):
        writer.write(whole + whole + b"garbage\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.2)
            writer.write(b"a" * 1000)  # where the connection is closed already, it is reset, and the next one fails
        assert [(await one(reader)).status for _ in range(2)] == [201, 201]
    await is_well(command)
