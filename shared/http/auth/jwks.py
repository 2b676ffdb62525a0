"""JSON Web Key Sets (RFC 7517): which keys may have signed a token.

Invariant: a key comes with the one algorithm it is used with. What a key set says beyond public signature keys with an
id is not used: shared secrets, private parts, keys for encryption, short ones, and points of Ed25519 that anybody can
sign for. Whatever is wrong with one entry, the others count.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MOST_BYTES: Final = 256 * 1024
_LEAST_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""Points of Ed25519 whose order divides 8, by their y in every encoding (libsodium's ``ge25519_has_small_order``). For
such a key, a signature is found by a few attempts."""
_PUBLIC_MEMBERS: Final = {"RSA": ("kty", "n", "e"), "OKP": ("kty", "crv", "x")}


class JwksError(Exception):
    """This is no key set. The message says why."""


class VerificationKey(NamedTuple):
    """``key`` is whatever PyJWT takes for the ``algorithm``."""

    algorithm: str
    key: Any


def is_url(location: str) -> bool:
    return location.startswith(("https://", "http://"))


def read_bounded(path: Path) -> bytes:
    """The file's content. Raises ``OSError``; ``JwksError`` when it is too large."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise JwksError(f"larger than {MOST_BYTES} bytes")
    return raw


def parse_jwks(raw: bytes) -> dict[str, VerificationKey]:
    """The usable keys by their ``kid``; of several with the same one, the first. Raises ``JwksError``."""
    try:
        document: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise JwksError("not JSON") from None
    entries: Any = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JwksError('not a key set: expected {"keys": […]}')
    keys: dict[str, VerificationKey] = {}
    for entry in cast("list[Any]", entries):
        if not isinstance(entry, dict):
            continue
        jwk = cast("dict[str, Any]", entry)
        # What others publish may be odd in ways that nobody has thought of, and ends no service.
        with suppress(Exception):
            key, kid = _usable(jwk), jwk.get("kid")
            if key is not None and isinstance(kid, str) and kid:
                keys.setdefault(kid, key)
    return keys


def _usable(jwk: dict[str, Any]) -> VerificationKey | None:
    """The key, if it is for signatures that are accepted here. Raises whatever an entry that is no key leads to."""
    operations = jwk.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    if jwk.get("use") not in (None, "sig"):
        return None
    match jwk:
        case {"kty": "RSA"} if jwk.get("alg") in (None, "RS256"):
            algorithm = "RS256"
        case {"kty": "OKP", "crv": "Ed25519"} if jwk.get("alg") in (None, "EdDSA", "Ed25519"):
            algorithm = "EdDSA"
        case _:
            return None
    public = {member: jwk.get(member) for member in _PUBLIC_MEMBERS[jwk["kty"]]}
    key = jwt.PyJWK(cast("dict[str, Any]", public), algorithm).key
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return None
    if isinstance(key, Ed25519PublicKey) and _is_of_small_order(key):
        return None
    return VerificationKey(algorithm, key)


def _is_of_small_order(key: Ed25519PublicKey) -> bool:
    *y, last = key.public_bytes_raw()
    return bytes((*y, last & 0x7F)) in _SMALL_ORDER  # the bit that is left out is the sign of x
