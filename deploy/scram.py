"""SCRAM-SHA-256 verifiers of PostgreSQL's passwords (RFC 5803), made here so that no server is ever told a password.

Pure but for the salt.
"""

import base64
import hashlib
import hmac
import secrets

_ITERATIONS = 4096


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What `alter role … password` takes in place of the password.

    Raises ValueError where there is none, or one of other characters than ASCII's printable ones, which would have to
    be normalized first (SASLprep, RFC 4013).
    """
    if not (password and password.isascii() and password.isprintable()):
        raise ValueError("a password is of one or more printable ASCII characters")
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    server = _keyed(salted, b"Server Key")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _keyed(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
