"""Reading one's own write: holding an answer back until the projection has come far enough.

Invariant: an answer given under ``min_seq`` reflects that event, or it is ``ProjectionBehindError``. A wake-up only
says when to look again; what is read decides. Listening begins before the look that waiting relies on, so a wake-up in
between is not lost, and while NATS is away a slow re-check does its work. Nobody waits who has left.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Protocol, TypeVar

import msgspec
from nats.aio.subscription import Subscription

from services.query.metrics import MIN_SEQ_TIMEOUTS, MIN_SEQ_WAITS
from services.query.principals import Principal, Principals
from shared.contracts.subjects import progress_subject
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError

_RECHECK_SECONDS = 0.25
_ANY_ROOM = "*"
_SHARE = 10
"""One principal may take one in so many of the places there are."""


class ProjectionBehindError(Exception):
    """The event is not applied yet; ``stream_seq`` is where the room is, 0 when it is not known."""

    def __init__(self, stream_seq: int) -> None:
        super().__init__(f"applied up to {stream_seq}")
        self.stream_seq = stream_seq


class CallerLeftError(Exception):
    """There is nobody any more who would be answered."""


class WaitersOverloadedError(Exception):
    """As many requests wait as may, of all or of one principal."""


Leaving = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""While in it, what it is given is called if the caller leaves."""


class Judged(Protocol):
    """Something read together with the position of its room; ``room_id`` is None while it is not there."""

    @property
    def room_id(self) -> str | None: ...

    @property
    def applied_seq(self) -> int: ...


JudgedT = TypeVar("JudgedT", bound=Judged)


class _Announcement(msgspec.Struct):
    projection: str
    stream_seq: int


_decoder = msgspec.json.Decoder(_Announcement)


class _Waiter:
    def __init__(self, min_seq: int) -> None:
        self.min_seq = min_seq
        self.woken = asyncio.Event()
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True
        self.woken.set()


class _Topic:
    """One subject listened to, and who for."""

    def __init__(self) -> None:
        self.waiters: set[_Waiter] = set()
        self.subscription: Subscription | None = None
        self.subscribing = asyncio.Lock()

    def receive(self, _subject: str, _reply: str, _headers: bytes, payload: bytes) -> None:
        try:
            said = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = None  # whatever it means, looking again is right
        for waiter in self.waiters:
            if said is None or (said.projection == "runs" and said.stream_seq >= waiter.min_seq):
                waiter.woken.set()


class Progress:
    """Waits for the projection ``runs``; at most ``limit`` requests at one time, a tenth of them for one principal."""

    def __init__(self, broker: Broker, *, limit: int) -> None:
        self._broker = broker
        self._limit = limit
        self._principals = Principals(max(1, limit // _SHARE))
        self._waiting = 0
        self._topics: dict[str, _Topic] = {}

    async def reach(
        self,
        workspace_id: str,
        min_seq: int,
        wait_seconds: float,
        read: Callable[[], Awaitable[JudgedT]],
        leaving: Leaving,
        subject: str | None = None,
    ) -> JudgedT:
        """What ``read`` gives once its room is applied up to ``min_seq``; ``subject`` is the token's, if there is one.

        Raises ``ProjectionBehindError`` after ``wait_seconds``, ``CallerLeftError``, ``WaitersOverloadedError``, and
        what ``read`` raises.
        """
        answer = await read()
        if _is_there(answer, min_seq):
            return answer
        with self._place(None if subject is None else (workspace_id, subject)):
            MIN_SEQ_WAITS.inc()
            waiter = _Waiter(min_seq)
            with leaving(waiter.leave):
                return await self._wait(workspace_id, waiter, wait_seconds, read, answer)

    @contextmanager
    def _place(self, principal: Principal | None) -> Generator[None, None, None]:
        """One of the places there are. Raises ``WaitersOverloadedError``."""
        if self._waiting >= self._limit or self._principals.is_full(principal):
            raise WaitersOverloadedError
        self._principals.enter(principal)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._principals.leave(principal)

    async def _wait(
        self,
        workspace_id: str,
        waiter: _Waiter,
        wait_seconds: float,
        read: Callable[[], Awaitable[JudgedT]],
        answer: JudgedT,
    ) -> JudgedT:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        async with self._listening(progress_subject(workspace_id, answer.room_id or _ANY_ROOM), waiter):
            while not waiter.has_left:
                waiter.woken.clear()
                answer = await read()
                if _is_there(answer, waiter.min_seq):
                    return answer
                remaining = deadline - loop.time()
                if remaining <= 0:
                    MIN_SEQ_TIMEOUTS.inc()
                    raise ProjectionBehindError(answer.applied_seq)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(remaining, _RECHECK_SECONDS)):
                        await waiter.woken.wait()
        raise CallerLeftError

    @asynccontextmanager
    async def _listening(self, subject: str, waiter: _Waiter) -> AsyncGenerator[None, None]:
        topic = self._topics.get(subject)
        if topic is None:
            topic = self._topics[subject] = _Topic()
        topic.waiters.add(waiter)
        try:
            with suppress(BrokerUnavailableError, *BROKER_ERRORS):
                async with topic.subscribing:
                    if topic.subscription is None:
                        topic.subscription = await self._broker.listen(subject, topic.receive)
                # The server has the subscription when it has answered what was sent after it.
                await self._broker.client.flush(1)
            yield
        finally:
            topic.waiters.discard(waiter)
            if not topic.waiters and self._topics.get(subject) is topic:
                del self._topics[subject]
                if topic.subscription is not None:
                    with suppress(BrokerUnavailableError, *BROKER_ERRORS):
                        await topic.subscription.unsubscribe()


def _is_there(answer: Judged, min_seq: int) -> bool:
    return answer.room_id is not None and answer.applied_seq >= min_seq
