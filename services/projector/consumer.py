"""Reading one partition of the stream: an ephemeral pull consumer that the broker keeps no acknowledgements for.

Invariant: what is in the buffer is everything of the partition from the start position on, in stream order, or the
consumer has a fault and is thrown away. The broker sends only what was asked for, so the buffer is bounded.

Messages arrive with a reply subject ``$JS.ACK.[domain.account.]<stream>.<consumer>.<delivered>.<stream position>.
<consumer seq>.<time>.<pending>[.token]``; statuses on the subject that was asked on, ``<inbox>.<consumer>.<request>``.
"""

import json
import secrets
import time
from collections import deque
from collections.abc import Callable

import structlog
from nats.aio.subscription import Subscription

from services.projector.projections.base import Recorded
from shared import tracing
from shared.contracts.subjects import STREAM, partition_filter, sampled_trace_in, stream_seq_in
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, number_in
from shared.messaging.client import parse_status
from shared.telemetry import Logger

PULL_MESSAGES = 400
"""Messages asked for at a time; the buffer holds at most one and a half times as many."""
PULL_BYTES = 256 * 1024
"""Bytes asked for at a time. The 32 consumers of a projection of a worker that is alone ask for half of what the broker
keeps for a connection (`max_pending`), and two projections for all of it, if the worker read nothing meanwhile."""
_PULL_SECONDS = 30
_HEARTBEAT_SECONDS = 2
_SILENCE_SECONDS = 5.0
_INACTIVE_SECONDS = 30
_NANOSECONDS = 1_000_000_000
_PLAIN_TOKENS = 9
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_BASKET_FULL = ("Batch Completed", _TOO_LARGE)


class Consumer:
    """The consumer of one partition, from ``start`` (a stream position) on. ``fault`` says why it is of no more use."""

    def __init__(self, name: str, partition: int, start: int, stream_key: str) -> None:
        self.name = name
        self.partition = partition
        self.stream_key = stream_key
        self.buffer: deque[tuple[str, Recorded]] = deque()
        self.pending = 0
        """Messages behind the last one received, by the broker's word."""
        self.fault: str | None = None
        self.asks_for_one = False
        """Whether the next request is for one message, as that is more than ``PULL_BYTES``."""
        self._prefix = f"rooms.{partition}."
        self._start = start
        self._requested = 0
        self._asked = 0
        self._requests = 0
        self._consumer_seq = 0
        self._heard = time.monotonic()

    @property
    def wants_more(self) -> bool:
        return self._asked == 0 and self.fault is None and len(self.buffer) <= PULL_MESSAGES // 2

    @property
    def is_asking_for_one(self) -> bool:
        """Whether a request for one message, of any size, is under way."""
        return self._requested == 1 and self._asked > 0 and self.fault is None

    async def create(self, broker: Broker) -> None:
        """Raises ``BrokerUnavailableError`` or ``JetStreamError``."""
        subject = partition_filter(self.partition)
        answer = await broker.jetstream(
            f"CONSUMER.CREATE.{STREAM}.{self.name}.{subject}",
            {
                "stream_name": STREAM,
                "action": "create",
                "config": {
                    "name": self.name,
                    "ack_policy": "none",
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self._start,
                    "filter_subject": subject,
                    "inactive_threshold": _INACTIVE_SECONDS * _NANOSECONDS,
                    "max_waiting": 8,
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            },
            seconds=5.0,
        )
        self.pending = number_in(answer, "num_pending", 0)

    async def pull(self, broker: Broker, inbox: str) -> None:
        """Asks for the next messages, to be sent below ``inbox``. Raises ``BrokerUnavailableError``.

        For one, however large, where that is more than ``PULL_BYTES``: what the broker takes today says nothing of what
        it has taken before.
        """
        bound = {"batch": 1} if self.asks_for_one else {"batch": PULL_MESSAGES, "max_bytes": PULL_BYTES}
        request = bound | {
            "expires": _PULL_SECONDS * _NANOSECONDS,
            "idle_heartbeat": _HEARTBEAT_SECONDS * _NANOSECONDS,
        }
        reply = f"{inbox}.{self.name}.{self.asked()}"
        await _publish(broker, f"CONSUMER.MSG.NEXT.{STREAM}.{self.name}", json.dumps(request).encode(), reply)

    def asked(self) -> str:
        """Counts a request as made; its number."""
        self._asked = self._requested = 1 if self.asks_for_one else PULL_MESSAGES
        self.asks_for_one = False
        self._requests += 1
        self._heard = time.monotonic()
        return str(self._requests)

    def receive(self, subject: str, tokens: list[str], headers: bytes, payload: bytes) -> None:
        """Takes a message in; ``tokens`` are those of its reply subject, ``headers`` its headers as they came."""
        if self.fault is not None:
            return
        shift = 0 if len(tokens) == _PLAIN_TOKENS else 2
        consumer_seq = int(tokens[6 + shift])
        if consumer_seq != self._consumer_seq + 1:
            self.fault = "gap"
            return
        if not subject.startswith(self._prefix):
            # The broker sends what the consumer was made for, unless somebody has made another of it.
            self.fault = "another partition's"
            return
        self._consumer_seq = consumer_seq
        self.pending = int(tokens[8 + shift])
        self._asked -= 1
        self._heard = time.monotonic()
        trace = None if tracing.active() is None else sampled_trace_in(headers)
        # Without a payload it is no event, and may be one of which the broker was told to send headers alone.
        stream_seq = stream_seq_in(headers) if payload else 0
        self.buffer.append((subject, Recorded(stream_seq, int(tokens[5 + shift]), payload, trace)))

    def receive_status(self, request: str, status: str, description: str) -> None:
        """Takes in what the broker says instead of a message, about the pull with this number."""
        self._heard = time.monotonic()
        if request != str(self._requests) or status == "100":
            return
        self.asks_for_one = description == _TOO_LARGE and self._asked == self._requested
        self._asked = 0
        # 408: nothing more came within the time asked for. 409: the basket is full, or the consumer is gone.
        if status != "408" and not (status == "409" and description in _BASKET_FULL):
            self.fault = f"status {status}"

    def check(self, now: float) -> None:
        """Finds a fault when the broker has been silent for too long."""
        if self._asked and now - self._heard > _SILENCE_SECONDS:
            self.fault = self.fault or "silence"


class Inbox:
    """The one subscription all consumers of a runner are served on. ``arrived`` is called after each message."""

    def __init__(self, broker: Broker, arrived: Callable[[], None]) -> None:
        self._broker = broker
        self._arrived = arrived
        self._prefix = ""
        self._subscription: Subscription | None = None
        self._consumers: dict[str, Consumer] = {}
        self._one: Consumer | None = None
        self._log: Logger = structlog.get_logger("consumer")

    async def open(self, projection: str, partition: int, start: int, stream_key: str) -> Consumer:
        """A new consumer, which has asked for nothing yet. Raises ``BrokerUnavailableError`` or ``JetStreamError``."""
        if self._subscription is None:
            self._prefix = self._broker.client.new_inbox()
            self._subscription = await self._broker.listen(f"{self._prefix}.*.*", self._receive)
        name = f"projector-{projection}-{partition}-{secrets.token_hex(6)}"
        consumer = Consumer(name, partition, start, stream_key)
        await consumer.create(self._broker)
        self._consumers[name] = consumer
        return consumer

    async def pull(self, consumer: Consumer) -> bool:
        """Asks for its next messages; for a large one not before the last of these has come. Whether it has asked."""
        if consumer.asks_for_one:
            if self._one is not None and self._one.is_asking_for_one:
                return False
            self._one = consumer
        await consumer.pull(self._broker, self._prefix)
        return True

    async def close_useless(self) -> None:
        """Forgets consumers with a fault. The broker is told if it can be; otherwise it finds out by itself."""
        for consumer in [consumer for consumer in self._consumers.values() if consumer.fault is not None]:
            del self._consumers[consumer.name]
            try:
                await _publish(self._broker, f"CONSUMER.DELETE.{STREAM}.{consumer.name}", b"", "")
            except BrokerUnavailableError as error:
                self._log.debug("consumer_left_to_expire", consumer=consumer.name, error=str(error))

    def fail_all(self, fault: str) -> None:
        """Marks every consumer as useless."""
        for consumer in self._consumers.values():
            consumer.fault = consumer.fault or fault

    def _receive(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        if reply.startswith("$JS.ACK."):
            tokens = reply.split(".")
            consumer = self._consumers.get(tokens[3] if len(tokens) == _PLAIN_TOKENS else tokens[5])
            if consumer is None:
                return
            consumer.receive(subject, tokens, headers, payload)
        else:
            _, name, request = subject.rsplit(".", 2)
            consumer = self._consumers.get(name)
            if consumer is None:
                return
            consumer.receive_status(request, *parse_status(headers))
        self._arrived()


async def _publish(broker: Broker, call: str, payload: bytes, reply: str) -> None:
    try:
        await broker.client.publish(f"$JS.API.{call}", payload, reply=reply)
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"cannot ask NATS: {type(error).__name__}") from error
