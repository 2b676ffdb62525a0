"""JSON Web Key Sets (RFC 7517): which keys may have signed a token.

Invariant: a key comes with the one algorithm it is used with. What a key set says beyond public signature keys with an
id is not used: shared secrets, private parts, keys for encryption. Whatever is wrong with one entry, the others count.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MOST_BYTES: Final = 256 * 1024
_LEAST_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""
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
    if jwk.get("use", "sig") != "sig":
        return None
    match jwk:
        case {"kty": "RSA"} if jwk.get("alg", "RS256") == "RS256":
            algorithm = "RS256"
        case {"kty": "OKP", "crv": "Ed25519"} if jwk.get("alg", "EdDSA") in ("EdDSA", "Ed25519"):
            algorithm = "EdDSA"
        case _:
            return None
    public = {member: jwk.get(member) for member in _PUBLIC_MEMBERS[jwk["kty"]]}
    key = jwt.PyJWK(cast("dict[str, Any]", public), algorithm).key
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return None
    return VerificationKey(algorithm, key)
