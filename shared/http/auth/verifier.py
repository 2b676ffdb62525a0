"""Telling whether a token is good.

Invariant: a token is verified with the key it names, by that key's one algorithm, whatever its header says; it is good
until it expires or its key goes. That it was found good is remembered under its digest, as long as both last and there
is room.
"""

import hashlib
import time
from collections import OrderedDict
from typing import Final, NamedTuple

import jwt

from shared.http.auth.claims import ClaimsError, Grant, read_grant, read_start
from shared.http.auth.jwks import VerificationKey
from shared.http.auth.keys import Keys

MOST_TOKEN_BYTES: Final = 8 * 1024
EXPIRED: Final = "the token has expired"
_MOST_REMEMBERED: Final = 10_000
_MOST_REMEMBERED_BYTES: Final = 16 * 1024 * 1024
_TOKEN_BYTES: Final = 1024
_ROOM_BYTES: Final = 112
"""What is kept of a token, and of each of its rooms beside the name."""
_NAMES: Final = {"RS256": ["RS256"], "HS256": ["HS256"], "EdDSA": ["EdDSA", "Ed25519"]}
"""What tokens may call an algorithm (RFC 9864, section 2.2)."""
_NO_TOKEN: Final = "it is no JSON Web Token"  # noqa: S105

jwt.register_algorithm("Ed25519", jwt.get_algorithm_by_name("EdDSA"))


class TokenRefusedError(Exception):
    """The token is not good. The message says why in plain ASCII, without quoting it."""


class Policy(NamedTuple):
    """What a token has to say beside its signature; None asks for nothing. Without an ``audience`` of ours, a token
    that names one is for somebody else."""

    issuer: str | None
    audience: str | None
    leeway_seconds: float


class Verifier:
    def __init__(self, keys: Keys, policy: Policy, most_remembered: int = _MOST_REMEMBERED) -> None:
        self._keys = keys
        self._policy = policy
        self._most_remembered = most_remembered
        self._remembered: OrderedDict[bytes, Grant] = OrderedDict()
        self._remembered_bytes = 0
        self._generation = keys.generation

    async def verify(self, token: bytes) -> Grant:
        """What the token grants. Raises ``TokenRefusedError``, and ``KeysAwayError`` when there is no telling."""
        digest = hashlib.sha256(token).digest()
        if self._generation != self._keys.generation:
            self._remembered.clear()
            self._remembered_bytes = 0
            self._generation = self._keys.generation
        grant = self._remembered.get(digest)
        if grant is not None:
            if not _is_over(grant, time.time()):
                self._remembered.move_to_end(digest)
                return grant
            self._forget(digest)
        if len(token) > MOST_TOKEN_BYTES:
            raise TokenRefusedError(f"the token is longer than {MOST_TOKEN_BYTES} bytes")
        if b"=" in token:  # the library takes it, and it is not what anybody signed (RFC 7515, section 2)
            raise TokenRefusedError(_NO_TOKEN)
        kid = _kid(token)
        key = await self._find(kid)
        if key is None:
            raise TokenRefusedError("the token was signed with a key that is not known here")
        grant = self._decode(token, key)
        self._remember(digest, grant)
        return grant

    async def _find(self, kid: str | None) -> VerificationKey | None:
        """The key, new ones among them. Raises ``KeysAwayError``."""
        if not self._keys.has_any or (kid is not None and self._keys.find(kid) is None):
            await self._keys.look_again()
        return self._keys.find(kid)

    def _decode(self, token: bytes, key: VerificationKey) -> Grant:
        policy = self._policy
        try:
            payload = jwt.decode(
                token,
                key.key,
                algorithms=_NAMES[key.algorithm],
                issuer=policy.issuer,
                audience=policy.audience,
                leeway=policy.leeway_seconds,
                # Not by the library, which takes text for a time and whole seconds alone, and stumbles over null.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
            starts_at = read_start(payload)
            grant = read_grant(payload, policy.leeway_seconds)
        except ClaimsError as error:
            raise TokenRefusedError(f"the token's claim {error}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:  # the last three of odd times
            raise TokenRefusedError(_reason(error)) from None
        if policy.audience is None and payload.get("aud") is not None:  # the library lets an empty one pass
            raise TokenRefusedError(_REASONS[jwt.InvalidAudienceError])
        now = time.time()
        if starts_at > now + policy.leeway_seconds:
            raise TokenRefusedError(_REASONS[jwt.ImmatureSignatureError])
        # By the same clock and margin as later, when it is remembered.
        if _is_over(grant, now):
            raise TokenRefusedError(_REASONS[jwt.ExpiredSignatureError])
        return grant

    def _remember(self, digest: bytes, grant: Grant) -> None:
        # The keys may have changed since they were asked for: what is remembered was good by those of now, or is gone.
        if self._generation == self._keys.generation:
            if digest not in self._remembered:  # somebody else may have come with it meanwhile
                self._remembered_bytes += _size(grant)
            self._remembered[digest] = grant
            while len(self._remembered) > self._most_remembered or self._remembered_bytes > _MOST_REMEMBERED_BYTES:
                self._forget(next(iter(self._remembered)))

    def _forget(self, digest: bytes) -> None:
        self._remembered_bytes -= _size(self._remembered.pop(digest))


def _size(grant: Grant) -> int:
    """What it takes to keep it, in bytes and nearly."""
    rooms = grant.identity.rooms or ()
    return _TOKEN_BYTES + _ROOM_BYTES * len(rooms) + sum(map(len, rooms))


def _is_over(grant: Grant, now: float) -> bool:
    expires_at = grant.identity.expires_at
    return expires_at is None or now >= expires_at


def _kid(token: bytes) -> str | None:
    try:
        return jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        raise TokenRefusedError(_NO_TOKEN) from None


_REASONS: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: EXPIRED,
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidIssuerError: "the token is not of the issuer that is accepted here",
    jwt.InvalidAudienceError: "the token is not for this service",
    jwt.InvalidAlgorithmError: "the token's algorithm is not that of its key",
    jwt.InvalidSignatureError: "the token's signature is not that of its key",
}


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):  # iss or aud
        return f"the token's claim {error.claim}: missing"
    return next((text for kind, text in _REASONS.items() if isinstance(error, kind)), "the token cannot be read")
