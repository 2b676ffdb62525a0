"""Tokens and keys for tests: good ones, and those that are almost good."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BOTH = "runs:read runs:write"


class SigningKey(NamedTuple):
    """A private key with the id and the algorithm it is published under."""

    kid: str
    algorithm: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as a JSON Web Key."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(algorithm.to_jwk(self.private.public_key()))  # pyright: ignore
        return public | {"kid": self.kid, "use": "sig", "alg": self.algorithm}

    @property
    def pem(self) -> bytes:
        """The public half as a PEM, as an attacker would have it."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def rsa_key(kid: str, bits: int = 2048) -> SigningKey:
    private: RSAPrivateKey = generate_private_key(public_exponent=65537, key_size=bits)
    return SigningKey(kid, "RS256", private)


def ed25519_key(kid: str) -> SigningKey:
    return SigningKey(kid, "EdDSA", Ed25519PrivateKey.generate())


def jwks(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [key.jwk for key in keys]}).encode()


def claims(**changed: Any) -> dict[str, Any]:
    """A token's claims, good for everything for an hour; one that is changed to None is left out."""
    now = int(time.time())
    given: dict[str, Any] = {
        "sub": "tester", "actor_type": "user", "workspace": "ws_test", "scope": BOTH, "iat": now, "exp": now + 3600,
    }  # fmt: skip
    return {name: value for name, value in (given | changed).items() if value is not None}


def signed(key: SigningKey, payload: dict[str, Any], **header: Any) -> str:
    """As the holder of the key would, but for what the claims say: ``jwt.encode`` would look at them."""
    jws = jwt.PyJWS()
    return jws.encode(json.dumps(payload).encode(), key.private, key.algorithm, {"kid": key.kid, **header})


def by_hand(header: dict[str, Any], payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    """A token put together without anybody's help."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    parts = (json.dumps(header).encode(), body, signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hs256(secret: bytes, payload: dict[str, Any], **header: Any) -> str:
    """Signed with whatever bytes are given: the library would not take a public key for a secret."""
    import hashlib
    import hmac

    unsigned = by_hand({"alg": "HS256", "typ": "JWT", **header}, payload).rpartition(".")[0]
    mac = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
