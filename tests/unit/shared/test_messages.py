"""The parser of what the broker sends: however the bytes are cut, what arrives is what was sent, in order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from shared.messaging.client import MessagingClient, parse_status

RAW = 7
"""The subscription that is listened to."""

SENT: list[tuple[bytes, Any]] = [
    (b"MSG rooms.1.ws.a 7 2\r\nhi\r\n", ("rooms.1.ws.a", "", b"", b"hi")),
    (b"MSG  rooms.1.ws.a\t7 _INBOX.x 0\r\n\r\n", ("rooms.1.ws.a", "_INBOX.x", b"", b"")),
    (b"MSG rooms.1.\x0b9 7 \x0c_INBOX.x 1\r\nx\r\n", ("rooms.1.\x0b9", "\x0c_INBOX.x", b"", b"x")),
    (b"MSG rooms.1.\xff 7 \xff 1\r\ny\r\n", ("rooms.1.\ufffd", "\ufffd", b"", b"y")),
    (b"PING\r\n", "ping"),
    (b"HMSG a.b 7 12 17\r\nNATS/1.0\r\n\r\n\r\nPIN\r\n", ("a.b", "", b"NATS/1.0\r\n\r\n", b"\r\nPIN")),
    (b"HMSG a.b 7 r.s 12 12\r\nNATS/1.0\r\n\r\n\r\n", ("a.b", "r.s", b"NATS/1.0\r\n\r\n", b"")),
    (b"+OK\r\n", None),
    (b"MSG other 8 r 3\r\nthe\r\n", (8, b"other", b"r", b"the", None)),
    (b"HMSG other 8 12 13\r\nNATS/1.0\r\n\r\nx\r\n", (8, b"other", b"", b"x", b"NATS/1.0\r\n\r\n")),
    (b"PONG\r\n", "pong"),
    (b"MSG a 7 40000\r\n" + b"\r\nMSG a 7 1\r\n" * 3000 + b"y" * 1000 + b"\r\n", None),
    (b"-ERR 'Slow Consumer'\r\n", "-err 'slow consumer'"),
    (b'INFO {"server_id":"x"}\r\n', "info x"),
    (b"MSG a 7 1\r\nz\r\n", ("a", "", b"", b"z")),
]


class Client(MessagingClient):
    """Writes down what the parser brings, of the listened subscription and of others."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.raw_handlers[RAW] = lambda *message: self.got.append(message)

    @property
    def parser(self) -> Parser:
        return self._ps

    async def deliver(self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> None:
        self.got.append((sid, subject, reply, payload, headers))

    async def _process_ping(self) -> None:
        self.got.append("ping")

    async def _process_pong(self) -> None:
        self.got.append("pong")

    async def _process_err(self, err_msg: str) -> None:
        self.got.append(f"-err {err_msg}")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self.got.append(f"info {info['server_id']}")


def expected() -> list[Any]:
    large = next(sent for sent, _ in SENT if b" 40000" in sent)
    body = large[len(b"MSG a 7 40000\r\n") : -2]
    assert len(body) == 40000
    return [("a", "", b"", body) if sent is large else what for sent, what in SENT if what is not None or sent is large]


@pytest.mark.parametrize("seed", range(20))
async def test_what_was_sent_arrives_however_the_bytes_were_cut(seed: int) -> None:
    client = Client()
    stream = b"".join(sent for sent, _ in SENT)
    rng = random.Random(seed)
    longest = rng.choice([1, 3, 50, 5000, len(stream)])
    while stream:
        size = rng.randint(1, longest)
        await client.parser.parse(stream[:size])
        stream = stream[size:]
    assert client.got == expected()


@pytest.mark.parametrize(
    "line",
    [b"MSG a 7 x\r\n", b"MSG 7\r\n", b"MSG a b 7 r 3\r\n", b"HMSG a 7 13 12\r\n", b"MSG a 7 -1\r\n", b"NONSENSE\r\n"],
)
async def test_what_is_no_message_is_an_error_by_which_the_client_reconnects(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Client().parser.parse(line)


async def test_what_a_connection_left_half_said_is_forgotten_with_it() -> None:
    client = Client()
    await client.parser.parse(b"MSG a 7 10\r\nhal")
    client.parser.reset()
    await client.parser.parse(b"MSG a 7 3\r\nnew\r\n")
    assert client.got == [("a", "", b"", b"new")]


async def test_nothing_is_delivered_of_what_came_behind_an_error_that_ended_the_connection() -> None:
    class Ended(Client):
        async def _process_err(self, err_msg: str) -> None:
            self.parser.reset()

    client = Ended()
    await client.parser.parse(b"MSG a 7 1\r\n1\r\n-ERR 'Stale Connection'\r\nMSG a 7 1\r\n2\r\n")
    assert client.got == [("a", "", b"", b"1")]
    await client.parser.parse(b"MSG a 7 1\r\n3\r\n")
    assert client.got[1:] == [("a", "", b"", b"3")]


async def test_a_handler_that_fails_is_reported_and_the_next_message_comes() -> None:
    reported: list[Exception] = []

    class Reporting(Client):
        async def complain(self, error: Exception) -> None:
            reported.append(error)

    def fail(*message: Any) -> None:
        client.got.append(message)
        raise LookupError("no room")

    client = Reporting()
    client.raw_handlers[RAW] = fail
    await client.parser.parse(b"MSG a 7 1\r\n1\r\nMSG a 7 1\r\n2\r\n")
    assert [message[3] for message in client.got] == [b"1", b"2"]
    assert [str(error) for error in reported] == ["no room", "no room"]


async def test_a_message_that_the_library_cannot_read_is_reported_and_the_next_one_comes() -> None:
    reported: list[Exception] = []
    came: list[bytes] = []

    class Reporting(MessagingClient):
        async def complain(self, error: Exception) -> None:
            reported.append(error)

        async def deliver(self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> None:
            await super().deliver(sid, subject, reply, payload, headers)
            came.append(payload)

    client = Reporting()
    client._subs[9] = Subscription(client, id=9, subject="a")
    await client._ps.parse(
        b"HMSG a 9 1 2\r\nx1\r\nHMSG a 9 10 11\r\nNATS/1.0 \xff2\r\nMSG a 9 \xff 1\r\n3\r\nMSG a 9 1\r\n4\r\n"
    )
    assert came[-1] == b"4"
    assert reported


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", ("", "")),
        (b"NATS/1.0\r\nName: value\r\n\r\n", ("", "")),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", ("100", "Idle Heartbeat")),
        (b"NATS/1.0 404\r\n\r\n", ("404", "")),
        (b"NATS/2.0 204 EOB\r\n\r\n", ("", "")),
        (b"X 503\r\n\r\n", ("", "")),
        (b" NATS/1.0 503\r\n\r\n", ("", "")),
        (b"NATS/1.0 409  Consumer Deleted \r\n\r\n", ("409", "Consumer Deleted")),
    ],
)
def test_a_status_is_what_stands_on_the_first_line(raw: bytes, status: tuple[str, str]) -> None:
    assert parse_status(raw) == status
