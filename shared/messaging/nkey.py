"""NKeys, by which NATS knows its users: Ed25519 keys in a text form of its own (NATS ADR-14).

Invariant: who holds a seed can sign; a server is given public keys alone, so what it holds lets nobody in. Seeds stand
in files and are never part of a message.

The reference implementation comes without a wheel; the form is one page, and the signing is the library's.
"""

import base64
import binascii
import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED = 18 << 3  # "S"
_USER = 20 << 3  # "U"
_SEED_BYTES = 32


class NkeyError(ValueError):
    """A text that is not the seed of a user. The message does not quote it."""


class UserKey:
    """A user's key. ``public`` is how servers name the user: ``U…``."""

    def __init__(self, seed: str) -> None:
        """``seed`` is the text ``SU…``. Raises ``NkeyError``."""
        raw = _decode(seed)
        kind = (raw[0] & 0xF8, (raw[0] & 0x07) << 5 | raw[1] >> 3)
        if kind != (_SEED, _USER) or len(raw) != 2 + _SEED_BYTES:
            raise NkeyError("not the seed of a user")
        self._key = Ed25519PrivateKey.from_private_bytes(raw[2:])
        self.public = _encode(bytes([_USER]) + self._key.public_key().public_bytes_raw())

    def sign(self, nonce: str) -> bytes:
        """The answer to a server's challenge, as it stands in CONNECT."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def new_seed() -> str:
    """The seed of a new user."""
    prefix = bytes([_SEED | _USER >> 5, (_USER & 0x1F) << 3])
    return _encode(prefix + secrets.token_bytes(_SEED_BYTES))


def _encode(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _decode(text: str) -> bytes:
    text = text.strip()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) < 4 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise NkeyError("not an nkey")
    return raw[:-2]
