"""The NATS client as Runroom needs it: nats-py, with a quicker way in for messages, and which does not give up.

Invariant: what the library's own parser would have delivered is delivered, in the same order. Only messages are cut out
here; every other line the server sends is the library's to read.

A message costs the library some 13 µs: four regular expressions, a dictionary of headers, a ``Msg``, a queue and a task
that reads from it; that was more than half of a projector's time. ``subscribe_raw`` calls a function with the parts as
they came, for 3 µs (docs/decisions/0009-messages-as-they-come.md).
"""

import asyncio
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ConnectionReconnectingError, NoRespondersError, ProtocolError
from nats.errors import Error as NatsError
from nats.protocol.parser import Parser

from shared.messaging.transport import Transport

RawHandler = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, headers as they came (empty if there are none) and payload. Must keep up."""

_END = b"\r\n"
_VERSION = "NATS/1.0"
_NO_RESPONDERS = "503"
_INBOX_BYTES = 16

_CLOSE_SECONDS = 1
"""For what is still to be sent when the client is closed."""


class Outgoing(NamedTuple):
    """A message to be sent; ``headers`` by ``header_block``, or empty if there are none."""

    subject: str
    headers: bytes
    payload: bytes


def parse_headers(raw: bytes) -> dict[str, str]:
    """The headers of a message as they came (NATS ADR-4): the lines ``name: value`` that follow the first one.

    Blanks and tabs are no part of a value; other white space is.
    """
    lines = raw.decode(errors="replace").split("\r\n")[1:]
    return {name: value.strip(" \t") for name, colon, value in (line.partition(":") for line in lines) if colon}


def header_block(headers: dict[str, str]) -> bytes:
    """Headers as they go over the wire (NATS ADR-4). Raises ``ValueError`` for one with a line break."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    block = "\r\n".join([_VERSION, *lines, "", ""])
    if block.count("\n") != len(lines) + 2 or block.count("\r") != len(lines) + 2:
        raise ValueError("a header holds a line break")
    return block.encode()


def parse_status(raw: bytes) -> tuple[str, str]:
    """Code and description of the first line, ``NATS/1.0 100 Idle Heartbeat``; both empty when it has none.

    The server says none under another version, but keeps whatever somebody else has published under one.
    """
    line = raw.partition(_END)[0].decode(errors="replace")
    version, _, status = line.partition(" ")
    if version != _VERSION:
        return "", ""
    code, _, description = status.strip().partition(" ")
    return code, description.strip()


class _MessageParser(Parser):
    """Cuts whole messages out of what has arrived (NATS client protocol, ``MSG`` and ``HMSG``)."""

    def __init__(self, client: "MessagingClient") -> None:
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType]  # an untyped default of the library's
        self._client = client

    def reset(self) -> None:
        super().reset()
        # A new object each time: a parse that was under way finds out that it has been overtaken.
        self._arrived = bytearray()
        self._enough = 0

    async def parse(self, data: bytes = b"") -> None:
        """Raises ``ProtocolError``, after which the client reconnects."""
        arrived = self._arrived
        arrived += data
        if len(arrived) < self._enough:
            return
        self._enough = 0
        chunk = bytes(arrived)
        at = 0
        while (end := chunk.find(_END, at)) >= 0:
            operation = chunk[at : at + 4]
            if operation not in (b"HMSG", b"MSG "):
                await super().parse(chunk[at : end + 2])
                if self._arrived is not arrived:
                    return
                at = end + 2
                continue
            subject, sid, reply, headed, size = _arguments(chunk[at:end])
            body = end + 2
            if len(chunk) < body + size + 2:
                self._enough = body + size + 2 - at
                break
            headers, payload = chunk[body : body + headed], chunk[body + headed : body + size]
            at = body + size + 2
            try:
                if (handler := self._client.raw_handlers.get(sid)) is None:
                    await self._client.deliver(sid, subject, reply, payload, headers or None)
                else:
                    handler(subject.decode(errors="replace"), reply.decode(errors="replace"), headers, payload)
            except Exception as error:  # of this message, whoever sent it: the next one is read all the same
                await self._client.complain(error)
            if self._arrived is not arrived:
                return
        del arrived[:at]


def _arguments(line: bytes) -> tuple[bytes, int, bytes, int, int]:
    """From the first line of a message: subject, subscription, reply subject, bytes of headers, bytes of all."""
    # Blanks and tabs are what stands between them; a subject may hold what other white space there is.
    operation, *arguments = line.split(b" ")
    if b"" in arguments or b"\t" in line:
        operation, *arguments = (word for word in line.replace(b"\t", b" ").split(b" ") if word)
    try:
        size = int(arguments.pop())
        headed = int(arguments.pop()) if operation == b"HMSG" else 0
        if len(arguments) == 2:
            arguments.append(b"")
        subject, sid, reply = arguments
        number = int(sid)
    except (ValueError, IndexError) as error:
        raise ProtocolError(f"nats: malformed {operation.decode(errors='replace')}") from error
    if not 0 <= headed <= size:
        raise ProtocolError(f"nats: {headed} of {size} bytes are headers")
    return subject, number, reply, headed, size


def _published(message: Outgoing, reply: str) -> tuple[bytes, ...]:
    subject, headers, payload = message
    if not headers:
        return f"PUB {subject} {reply}{len(payload)}\r\n".encode(), payload, _END
    line = f"HPUB {subject} {reply}{len(headers)} {len(headers) + len(payload)}\r\n"
    return line.encode(), headers, payload, _END


class MessagingClient(Client):
    """Reconnects whatever the server has said last, and waits for none that has gone silent.

    The library's own closes itself for good on almost any error of the server's: credentials that are being changed, or
    a message too large, would cost a service its stream until it is started again.
    """

    def __init__(self, *, public_key: str | None = None, only_tls: bool = False) -> None:
        """``public_key`` is the nkey that CONNECT names; ``only_tls``: a server without TLS is not told anything."""
        super().__init__()
        self._transport = Transport()
        self._public_nkey = public_key
        # A server that lets strangers in does not ask.
        self._auth_configured = public_key is not None
        self._only_tls = only_tls
        self.raw_handlers: dict[int, RawHandler] = {}
        self._ps = _MessageParser(self)
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._failing: dict[str, asyncio.Future[Any]] = {}
        self._answer_inbox = ""

    async def subscribe_raw(self, subject: str, handler: RawHandler) -> Subscription:
        """A subscription whose messages go straight to ``handler``. It comes back by itself after a reconnect."""
        # The id the next subscription gets: its first message may be read before the library says what it was.
        sid = self._sid + 1
        self.raw_handlers[sid] = handler
        try:
            return await self.subscribe(subject)  # pyright: ignore[reportUnknownMemberType]
        except BaseException:
            del self.raw_handlers[sid]
            raise

    def new_inbox(self) -> str:
        """An inbox that cannot be guessed. The library counts its own: whoever sees one has the next."""
        return f"{self._inbox_prefix.decode()}.{secrets.token_hex(_INBOX_BYTES)}"

    async def request_all(self, messages: Sequence[Outgoing], seconds: float) -> bytes:
        """Sends the messages in one write; the payload of the answer to the last.

        The answer is known by a word that nobody else can know before it has come. Raises ``TimeoutError``, or an
        error of the client's: in either case some of them may have arrived.
        """
        if not self._answer_inbox:
            inbox = self.new_inbox()
            await self.subscribe_raw(f"{inbox}.*", self._receive_answer)
            self._answer_inbox = inbox
        reply = f"{self._answer_inbox}.{secrets.token_hex(_INBOX_BYTES)}"
        *first, last = messages
        parts = [part for message in first for part in _published(message, "")]
        parts += _published(last, f"{reply} ")
        self._answers[reply] = answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._write(b"".join(parts))
                return await answer
        finally:
            del self._answers[reply]

    @contextmanager
    def failing_with_it(self, inbox: str, answer: asyncio.Future[Any]) -> Generator[None, None, None]:
        """Has the answer that is waited for meanwhile fail with the connection."""
        self._failing[inbox] = answer
        try:
            yield
        finally:
            del self._failing[inbox]

    def fail_answers(self) -> None:
        """To be called when the connection is lost: what was asked on it is not answered on the next."""
        for answer in (*self._answers.values(), *self._failing.values()):
            if not answer.done():
                answer.set_exception(ConnectionReconnectingError())

    def _receive_answer(self, subject: str, _reply: str, headers: bytes, payload: bytes) -> None:
        answer = self._answers.get(subject)
        if answer is None or answer.done():
            return
        if parse_status(headers)[0] == _NO_RESPONDERS:
            answer.set_exception(NoRespondersError())
        else:
            answer.set_result(payload)

    async def _write(self, data: bytes) -> None:
        """Sends at once when nothing else is waiting to be; the library's way is one turn of the event loop later."""
        if self._transport is None or self._pending or not self.is_connected:
            # Not by _send_command, which waits for a flush when this is much.
            self._pending.append(data)
            self._pending_data_size += len(data)
            await self._flush_pending()
        else:
            self._transport.write(data)
            await self._transport.drain()

    async def _flush_pending(self, force_flush: bool = False) -> None:
        # The library's waits while the queue is full. The pings would, too, by which a server that hangs is found out.
        if self.is_connected and self._flush_queue is not None and self._flush_queue.full():
            return
        if not force_flush:
            await super()._flush_pending()
            return
        # The library's keeps to itself that it was cancelled, by a timeout or at the end of a service.
        task = cast("asyncio.Task[object]", asyncio.current_task())
        cancelled = task.cancelling()
        await super()._flush_pending(force_flush=True)
        if task.cancelling() > cancelled:
            raise asyncio.CancelledError

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # The library's overtakes what is still to be sent, and is answered before a subscription is there.
        if self._transport is not None and self.is_connected and self._pending:
            self._transport.write(b"".join(self._pending))
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)  # pyright: ignore[reportUnknownMemberType]  # an untyped default of the client's

    async def close(self) -> None:
        """Ends it for good. What has been sent before arrives if the server reads it within a second."""
        if self._transport is not None and self.is_connected:
            with suppress(NatsError, OSError, TimeoutError):
                await self.flush(_CLOSE_SECONDS)
        self._pending = []
        self._pending_data_size = 0
        await super().close()

    async def deliver(self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> None:
        """The library's way with a message."""
        await self._process_msg(sid, subject, reply, payload, headers)  # pyright: ignore[reportArgumentType]

    async def complain(self, error: Exception) -> None:
        """Reports what a handler has raised, as the library does of its own."""
        await self._error_cb(error)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # The library takes the server's word for it that there is no TLS, or the word of whoever is in between.
        if initial_connection and self._only_tls and not info.get("tls_required"):
            raise NatsError("nats: the server does not ask for TLS")
        await super()._process_info(info, initial_connection)

    async def _process_pong(self) -> None:
        # A flush that nobody waits for any more is answered all the same. The library's own ends its reading over it,
        # and hears nothing until two pings have gone unanswered.
        waiting = cast("list[asyncio.Future[bool]]", self._pongs)  # pyright: ignore[reportUnknownMemberType]
        if waiting and waiting[0].done():
            waiting[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(NatsError(f"nats: {err_msg}"))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self.raw_handlers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)
