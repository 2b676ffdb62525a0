"""Whether callers have to show a token, and what it has to be.

Invariant: a service that others can reach asks for tokens, or does not start. Faults never quote a secret.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from jwt import InvalidKeyError
from jwt.algorithms import HMACAlgorithm

from shared.http.auth.jwks import JwksError, is_url, parse_jwks, read_bounded
from shared.settings import Environment

LEAST_SECRET_BYTES = 32
"""As long as what HMAC-SHA-256 gives (RFC 7518, section 3.2)."""

_KEYS = "AUTH_JWT_SECRET, AUTH_JWT_SECRET_FILE or AUTH_JWKS"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Exactly one of ``secret`` and ``jwks`` (a path or an http(s) URL) is given."""

    secret: bytes | None = field(repr=False)
    jwks: str | None
    issuer: str | None
    audience: str | None
    leeway_seconds: float


def read_auth_settings(env: Environment, host: str) -> AuthSettings | None:
    """The settings of a service that listens on ``host``; None when authentication is off.

    Faults are left in ``env``.
    """
    secret, secret_file, jwks = (
        env.optional(name) for name in ("AUTH_JWT_SECRET", "AUTH_JWT_SECRET_FILE", "AUTH_JWKS")
    )
    issuer, audience = env.optional("AUTH_ISSUER"), env.optional("AUTH_AUDIENCE")
    leeway_seconds = env.number("AUTH_LEEWAY_SECONDS", 1.0, 0.0, 300.0)
    reachable_at = _reachable_at(env, host)
    given = [value for value in (secret, secret_file, jwks) if value is not None]
    if len(given) > 1:
        env.fault(f"more than one of {_KEYS} is set: choose one")
    elif not given:
        if issuer or audience:
            env.fault(f"AUTH_ISSUER or AUTH_AUDIENCE is set, and none of {_KEYS}: authentication would be off")
        if not is_loopback(reachable_at):
            env.fault(
                f"authentication is off, and others can reach the service at {reachable_at}: set {_KEYS}, or HOST to"
                " 127.0.0.1, or in a container PUBLISHED_ON to the loopback address at which its port is published"
            )
        return None
    if jwks is not None:
        _check_jwks(env, jwks)
    key = _read_secret(env) if secret or secret_file else None
    return AuthSettings(key, jwks, issuer, audience, leeway_seconds)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _reachable_at(env: Environment, host: str) -> str:
    """Where others find the service: where its container's port is published, if it is in one, else its host."""
    given = env.optional("PUBLISHED_ON")
    if given is None:
        return host
    published_on = given.removeprefix("[").removesuffix("]")  # as Compose wants an IPv6 address
    try:
        ip_address(published_on)
    except ValueError:
        env.fault(f"PUBLISHED_ON is {given!r}: expected an IP address")
        return "127.0.0.1"
    return published_on


def _read_secret(env: Environment) -> bytes:
    key = env.secret("AUTH_JWT_SECRET", "").encode()
    if 0 < len(key) < LEAST_SECRET_BYTES:
        env.fault(f"AUTH_JWT_SECRET is shorter than {LEAST_SECRET_BYTES} bytes")
    elif key:
        try:
            HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(key)
        except InvalidKeyError:  # as it would say of every token
            env.fault(
                "AUTH_JWT_SECRET is a key of another kind, or a certificate: expected a secret; AUTH_JWKS has keys"
            )
    return key


def _check_jwks(env: Environment, path: str) -> None:
    if is_url(path):
        # A URL that is away is lived without: whoever answers there may start after us.
        if not _can_be_asked(path):
            env.fault("AUTH_JWKS is not a URL with a host, a path that can be asked for, and no user")
        return
    try:
        keys = parse_jwks(read_bounded(Path(path)))
    except OSError as error:
        env.fault(f"AUTH_JWKS: cannot read {path}: {error.strerror or error}")
    except JwksError as error:
        env.fault(f"AUTH_JWKS: {path}: {error}")
    else:
        if not keys:
            env.fault(f"AUTH_JWKS: {path} has no key for RS256 or EdDSA with a kid")


def _can_be_asked(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # a UnicodeError of the host among them
        return False
    is_sendable = all("!" <= char <= "~" for char in parts.path + parts.query)
    return bool(host) and port != 0 and "@" not in parts.netloc and is_sendable
