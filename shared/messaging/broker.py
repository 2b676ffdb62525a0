"""The connection to NATS, which a service starts without and outlives.

Invariant: a broker that is away is a ``BrokerUnavailableError`` at the place of use, never a hang and never a failed
start.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import structlog
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from shared.messaging.access import NatsAccess, asks_for_tls
from shared.messaging.client import MessagingClient, Outgoing, RawHandler
from shared.metrics import BROKER_CONNECTED, BROKER_DISCONNECTS, BROKER_RECONNECTS
from shared.tasks import end_tasks
from shared.telemetry import LineBudget, Logger

_AS_THE_URL_SAYS = NatsAccess()

ReconnectHook = Callable[[], Awaitable[None]]

_REFUSALS = ("authorization", "authentication", "permissions violation", "tls")

_HEADER_BYTES = 1024

BROKER_ERRORS = (NatsError, OSError, TimeoutError, asyncio.InvalidStateError)
"""What the client raises when the server is away, slow or refusing."""


class BrokerUnavailableError(Exception):
    """NATS is not connected or did not answer."""


class JetStreamError(Exception):
    """JetStream refused. ``code`` is its ``err_code``."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


def number_in(answer: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """The number of that name in an answer. Raises ``BrokerUnavailableError`` for what is none."""
    try:
        return int(answer.get(name, default))
    except (TypeError, ValueError) as error:
        raise BrokerUnavailableError(f"NATS answered with a {name} that is no number") from error


def object_in(answer: bytes) -> dict[str, Any]:
    """The JSON object that an answer is. Raises ``BrokerUnavailableError``."""
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise BrokerUnavailableError("NATS answered with what is no JSON") from error
    if not isinstance(found, dict):
        raise BrokerUnavailableError("NATS answered with what is no JSON object")
    return cast("dict[str, Any]", found)


class Broker:
    """One NATS connection of a service. ``url`` may name several servers of a cluster, separated by commas.

    ``start`` returns at once and connects in the background, for as long as it takes; ``close`` ends it. Hooks added
    with ``on_connected`` run after the first connect and after every reconnect.
    """

    def __init__(self, url: str, *, name: str, access: NatsAccess = _AS_THE_URL_SAYS) -> None:
        """Raises ``OSError`` or ``NkeyError`` when the key or the certificates cannot be read."""
        self._url = url
        self._name = name
        key = access.user_key()
        self._client = MessagingClient(public_key=key and key.public, only_tls=asks_for_tls(url))
        self._options: dict[str, Any] = {"user": access.user, "password": access.password}
        if key is not None:
            self._options["signature_cb"] = key.sign
        if asks_for_tls(url):
            self._options["tls"] = access.tls()
        self._refusal = ""
        self._was_connected = False
        self._hooks: list[ReconnectHook] = []
        self._up = asyncio.Event()
        self.answering = asyncio.Lock()
        """Held for as long as an answer of direct get is on its way, which may be as large as a message."""
        self._connecting: asyncio.Task[None] | None = None
        # A message that cannot be read, or that a handler fails at, is one, and anybody with a key can send many.
        self._complaints = LineBudget(1)
        self._log: Logger = structlog.get_logger("messaging")

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def client(self) -> MessagingClient:
        """The connected client. Raises ``BrokerUnavailableError`` while there is none."""
        if not self._client.is_connected:
            raise BrokerUnavailableError("NATS is not connected")
        return self._client

    @property
    def most_bytes(self) -> int | None:
        """The largest event the server takes with its headers, as it last said; None before the first connection."""
        return self._client.max_payload - _HEADER_BYTES if self._was_connected else None

    def on_connected(self, hook: ReconnectHook) -> None:
        self._hooks.append(hook)

    async def wait_connected(self) -> None:
        """Returns when the broker is connected, at once if it is."""
        await self._up.wait()

    async def reach(self, seconds: float) -> None:
        """Returns when the broker is connected. Raises ``BrokerUnavailableError``, with why, after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._up.wait()
        except TimeoutError as error:
            raise BrokerUnavailableError(f"no connection to NATS: {self._refusal or 'it does not answer'}") from error

    def start(self) -> None:
        self._connecting = asyncio.create_task(self._connect(), name="nats-connect")

    async def __aenter__(self) -> "Broker":
        """Does not start it: whoever has hooks adds them first."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._connecting is not None:
            await end_tasks(self._connecting, again_seconds=0.1)
        # The client asserts that it was about to connect, which it is not when we end that early.
        with suppress(AssertionError, *BROKER_ERRORS):
            await self._client.close()

    async def reconnect(self) -> None:
        """Begins another connection; subscriptions come with it."""
        await self._client.force_reconnect()

    async def listen(self, subject: str, receive: RawHandler) -> Subscription:
        """A core subscription; it comes back by itself after a reconnect.

        ``receive`` gets the parts of a message as they came, and must keep up: nothing is dropped here.
        """
        return await self.client.subscribe_raw(subject, receive)

    async def request(self, subject: str, payload: bytes, *, seconds: float = 2.0) -> bytes:
        """One request and its answer's data. Raises ``BrokerUnavailableError``."""
        try:
            return await self.client.request_all([Outgoing(subject, b"", payload)], seconds)
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"no answer from NATS: {type(error).__name__}") from error

    async def jetstream(self, call: str, body: dict[str, Any] | None = None, *, seconds: float = 2.0) -> dict[str, Any]:
        """One call of the JetStream API, such as ``STREAM.INFO.ROOMS``.

        Raises ``JetStreamError`` when it is refused and ``BrokerUnavailableError`` when nobody answers.
        """
        answer = object_in(await self.request(f"$JS.API.{call}", json.dumps(body or {}).encode(), seconds=seconds))
        if error := answer.get("error"):
            raise JetStreamError(number_in(error, "err_code", 0), str(error.get("description", "")))
        return answer

    async def _connect(self) -> None:
        while True:
            try:
                await self._client.connect(
                    self._url.split(","),
                    name=self._name,
                    # One prefix per service, so that a broker can permit each service its own inboxes only.
                    inbox_prefix=f"_INBOX_{self._name}",
                    connect_timeout=2,
                    reconnect_time_wait=0.25,  # pyright: ignore[reportArgumentType]  # seconds; fractions are fine
                    max_reconnect_attempts=-1,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    flush_timeout=5,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    **self._options,
                )
            except BROKER_ERRORS as error:
                self._log.warning("broker_connect_failed", error=type(error).__name__)
                await asyncio.sleep(0.5)
            else:
                break
        self._log.info("broker_connected")
        await self._run_hooks()

    async def _on_error(self, error: Exception) -> None:
        if (refusal := _refusal(error)) is not None:
            # Somebody has to do something about it; again and again it is said once.
            if refusal != self._refusal:
                self._log.warning("broker_refuses", reason=refusal)
            self._refusal = refusal
            return
        # The client reports every failed attempt to connect here too, four a second: say those quietly.
        if isinstance(error, OSError) or not self._client.is_connected:
            self._log.debug("broker_error", error=type(error).__name__)
        elif (left_out := self._complaints.take()) is not None:
            self._log.warning("broker_error", error=type(error).__name__, left_out=left_out)

    async def _on_disconnected(self) -> None:
        self._up.clear()
        self._client.fail_answers()
        BROKER_CONNECTED.set(0)
        if not self._client.is_closed:
            BROKER_DISCONNECTS.inc()
            self._log.warning("broker_disconnected")

    async def _on_reconnected(self) -> None:
        BROKER_RECONNECTS.inc()
        self._log.info("broker_reconnected")
        await self._run_hooks()

    async def _run_hooks(self) -> None:
        self._refusal = ""
        self._was_connected = True
        self._up.set()
        BROKER_CONNECTED.set(1)
        for hook in self._hooks:
            await hook()


def _refusal(error: Exception) -> str | None:
    """What the server, or we, have against each other, if it is that: there is nothing secret in these words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    text = str(error)
    refused = isinstance(error, NatsError) and any(word in text.lower() for word in _REFUSALS)
    return text if refused else None
