"""How a service proves to NATS who it is, and how it knows NATS: from the environment.

Invariant: with TLS asked for there is TLS, with a server whose certificate an authority known here has signed for the
name in the URL. Secrets come from files or variables and are part of no message.
"""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from shared.messaging.nkey import NkeyError, UserKey
from shared.settings import MOST_PORT, Environment

_TLS = "tls://"


class NatsAccess(Struct, frozen=True, kw_only=True):
    """A user with a password, an nkey, or neither: then whatever the URL says."""

    user: str | None = None
    password: str | None = None
    nkey_seed_file: Path | None = None
    ca_file: Path | None = None
    """PEM; None means the system's authorities."""
    certificate_file: Path | None = None
    """PEM: the client's own certificate and, if it is not there too, its key in ``key_file``."""
    key_file: Path | None = None

    def __repr__(self) -> str:
        return "NatsAccess(…)"

    def user_key(self) -> UserKey | None:
        """Raises ``OSError`` or ``NkeyError``."""
        return UserKey(self.nkey_seed_file.read_text()) if self.nkey_seed_file is not None else None

    def tls(self) -> ssl.SSLContext:
        """Raises ``OSError``, of which ``SSLError`` is one."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def read_nats_url(env: Environment, default: str | None = None) -> str:
    """``NATS_URL``: one server or several, separated by commas. Faults never quote it: it may hold a password."""
    url = env.url("NATS_URL", ("nats", "tls"), default)
    if not url.startswith(("nats://", _TLS)):
        return url  # which is a fault already, or the default
    for number, server in enumerate(url.split(","), 1):
        if (fault := _fault_of(server.strip())) is not None:
            env.fault(f"NATS_URL: server {number} {fault}")
    return url


def _fault_of(server: str) -> str | None:
    """What is wrong with it, read as the client does, which takes it without a scheme, too."""
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"is none, or its port is not a number from 1 to {MOST_PORT}"
    if parts.scheme not in ("nats", "tls"):
        return "does not start with nats:// or tls://"
    if port == 0:
        return f"has a port that is not a number from 1 to {MOST_PORT}"
    return None if host else "has no host"


def read_nats_access(env: Environment, url: str) -> NatsAccess:
    """From ``NATS_USER``, ``NATS_PASSWORD`` or ``NATS_PASSWORD_FILE``, ``NATS_NKEY_SEED_FILE``, ``NATS_CA_FILE``,
    ``NATS_CERTIFICATE_FILE`` and ``NATS_KEY_FILE``; ``url`` is ``NATS_URL``.
    """
    access = NatsAccess(
        user=env.text("NATS_USER", "") or None,
        password=env.secret("NATS_PASSWORD", "") or None,
        nkey_seed_file=env.file("NATS_NKEY_SEED_FILE"),
        ca_file=env.file("NATS_CA_FILE"),
        certificate_file=env.file("NATS_CERTIFICATE_FILE"),
        key_file=env.file("NATS_KEY_FILE"),
    )
    if (access.user is None) != (access.password is None):
        env.fault("NATS_USER and NATS_PASSWORD go together")
    if access.user is not None and access.nkey_seed_file is not None:
        env.fault("NATS_USER and NATS_NKEY_SEED_FILE exclude each other")
    try:
        access.user_key()
    except (OSError, NkeyError) as error:
        env.fault(f"NATS_NKEY_SEED_FILE cannot be used: {_words(error)}")
    if access.key_file is not None and access.certificate_file is None:
        env.fault("NATS_KEY_FILE is that of NATS_CERTIFICATE_FILE, which is missing")
    servers = [server.strip() for server in url.split(",")]
    encrypted = [server.startswith(_TLS) for server in servers]
    if any(encrypted) and not all(encrypted):
        env.fault("NATS_URL names servers with and without tls://")
    if (access.ca_file or access.certificate_file) and not all(encrypted):
        env.fault("NATS_CA_FILE and NATS_CERTIFICATE_FILE are for a NATS_URL with tls://")
    elif all(encrypted):
        try:
            access.tls()
        except OSError as error:
            env.fault(f"NATS_CA_FILE or NATS_CERTIFICATE_FILE cannot be used: {_words(error)}")
    return access


def asks_for_tls(url: str) -> bool:
    return url.startswith(_TLS)


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
