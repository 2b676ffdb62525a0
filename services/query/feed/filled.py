"""Which stream is filled, as the relay tells: query may not ask for it.

Invariant: nothing is taken for the relay's word but a message that is one through and through. Whoever has query's key
can have the stream's answers sent to the subject: these have headers, which the relay's message has not.
"""

import asyncio
from contextlib import suppress

from nats.aio.subscription import Subscription

from services.query.feed.misplaced import Misplaced
from shared.contracts.filled import Told, told_in
from shared.contracts.subjects import RELAY_FILLED_SUBJECT
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError
from shared.tasks import begin_shared

_PATIENCE_SECONDS = 3.0
"""Three times as long as the relay takes from one message to the next."""

_misplaced = Misplaced()


class Filled:
    """Listens from the first question on. Whoever waits shares the one subscription."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listening: asyncio.Task[Subscription] | None = None
        self._next: asyncio.Future[Told] | None = None

    async def identity(self) -> str | None:
        """The stream that the relay's next message names; None if none comes in time."""
        told = await self._told()
        return None if told is None else told.identity

    async def identity_since(self) -> str | None:
        """The same, of a message that surely rests on what the relay has asked the stream after this call.

        The next one may have been on its way, or its question answered, before. So it is one that the same relay has
        sent after that: in between it has asked again.
        """
        heard: set[str] = set()
        try:
            async with asyncio.timeout(2 * _PATIENCE_SECONDS):
                while (told := await self._told()) is not None and told.teller not in heard:
                    heard.add(told.teller)
        except TimeoutError:
            return None
        return None if told is None else told.identity

    async def _told(self) -> Told | None:
        """What the next message says."""
        listening = self._listening
        if listening is None:
            # Its own task: an asker that goes away in the midst of it would lose a subscription.
            listening = self._listening = begin_shared(self._listen(), "listen to the relay")
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await asyncio.shield(listening)
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                return await asyncio.shield(self._next)
        except TimeoutError:
            # NATS may have ended the subscription by itself, when its users were changed, and says so to nobody again.
            if self._listening is listening and listening.done() and self._broker.is_connected:
                self._listening = begin_shared(self._listen(listening.result()), "listen to the relay again")
            return None
        except (BrokerUnavailableError, *BROKER_ERRORS):
            if self._listening is listening:
                self._listening = None
            return None

    async def _listen(self, instead_of: Subscription | None = None) -> Subscription:
        if instead_of is not None:
            with suppress(*BROKER_ERRORS):
                await instead_of.unsubscribe()
        return await self._broker.listen(RELAY_FILLED_SUBJECT, self._receive)

    def _receive(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        if subject != RELAY_FILLED_SUBJECT or reply or headers or (told := told_in(payload)) is None:
            _misplaced.report("told_by_no_relay")
        elif self._next is not None:
            self._next.set_result(told)
            self._next = None
