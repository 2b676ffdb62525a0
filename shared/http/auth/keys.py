"""The keys that are accepted now.

Invariant: a key that its source no longer has is no longer accepted, and ``generation`` has changed with it. A source
that is away is lived without for ``MOST_STALE_SECONDS`` and not longer; whatever tokens claim, it is asked no more
often than it bears.
"""

import asyncio
import time
from typing import Final, Protocol

import structlog

from shared.http.auth.jwks import JwksError, VerificationKey, is_url, parse_jwks
from shared.http.auth.sources import FileSource, UrlSource
from shared.telemetry import Logger

MOST_STALE_SECONDS: Final = 3600.0
"""How long keys are accepted after their source was last heard of."""

_log: Logger = structlog.get_logger("auth")


class KeysAwayError(Exception):
    """There are no keys to verify anything with."""


class NoUsableKeyError(Exception):
    """The source was heard of, and has no key that could verify anything."""


class Keys(Protocol):
    generation: int
    """Another number whenever a key that was accepted may be accepted no more."""

    @property
    def has_any(self) -> bool:
        """Whether there is anything to verify tokens with."""
        ...

    def find(self, kid: str | None) -> VerificationKey | None:
        """The key that the token names; None when there is no such key. Raises ``KeysAwayError``."""
        ...

    def require_any(self) -> None:
        """Raises ``KeysAwayError`` or ``NoUsableKeyError`` when there is nothing to verify tokens with."""
        ...

    async def look_again(self) -> None:
        """Asks the source again, if it may have news and was not asked a moment ago."""
        ...

    async def run(self) -> None:
        """Keeps the keys up to date, until cancelled."""
        ...


class SecretKey:
    """The one secret; a ``kid`` means nothing to it."""

    generation = 0
    has_any = True

    def __init__(self, secret: bytes) -> None:
        self._key = VerificationKey("HS256", secret)

    def find(self, kid: str | None) -> VerificationKey | None:  # noqa: ARG002
        return self._key

    def require_any(self) -> None:
        pass

    async def look_again(self) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()


class Source(Protocol):
    """Where a key set is."""

    every_seconds: float
    """How often it is asked."""
    least_seconds: float
    """How long it is left alone, whatever happens."""

    async def read(self) -> bytes:
        """The key set as it is now. Raises ``OSError``, ``TimeoutError`` or ``JwksError``."""
        ...


class JwksKeys:
    """The keys of a key set."""

    def __init__(self, source: Source) -> None:
        self.generation = 0
        self._source = source
        self._keys: dict[str, VerificationKey] | None = None
        self._raw: bytes | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._is_well = True

    @property
    def has_any(self) -> bool:
        return bool(self._keys)

    def find(self, kid: str | None) -> VerificationKey | None:
        if self._keys is None:
            raise KeysAwayError
        return None if kid is None else self._keys.get(kid)

    def require_any(self) -> None:
        if self._keys is None:
            raise KeysAwayError
        if not self._keys:
            raise NoUsableKeyError

    async def look_again(self) -> None:
        if self._asking is None or self._asking.done():
            if time.monotonic() - self._asked_at < self._source.least_seconds:
                return
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask(), name="token keys")
        # Others may wait for the same.
        await asyncio.shield(self._asking)

    async def run(self) -> None:
        while True:
            await self.look_again()
            # Without a key the service is not ready, so that no token would come and make it look.
            is_fine = self._is_well and self.has_any
            await asyncio.sleep(self._source.every_seconds if is_fine else self._source.least_seconds)

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        try:
            raw = await self._source.read()
            keys = None if raw == self._raw else parse_jwks(raw)
        except (OSError, TimeoutError, JwksError) as error:
            if self._is_well:
                _log.warning("token_keys_unknown", error=type(error).__name__, reason=str(error))
            self._is_well = False
            return
        self._is_well = True
        # By a timer: whatever becomes of asking, and for tokens that are remembered as well.
        if self._giving_up is not None:
            self._giving_up.cancel()
        left = asked_at + MOST_STALE_SECONDS - time.monotonic()
        self._giving_up = asyncio.get_running_loop().call_later(left, self._give_up)
        if keys is not None:
            self._set(keys, raw)
            _log.info("token_keys_read", keys=len(keys))

    def _give_up(self) -> None:
        _log.error("token_keys_given_up")
        self._set(None, None)

    def _set(self, keys: dict[str, VerificationKey] | None, raw: bytes | None) -> None:
        self._keys, self._raw = keys, raw
        self.generation += 1


def jwks_keys(location: str) -> JwksKeys:
    """The keys of the set at a path or a URL."""
    return JwksKeys(UrlSource(location) if is_url(location) else FileSource(location))
