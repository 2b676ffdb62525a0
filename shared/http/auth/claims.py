"""What a verified token says about its holder.

Invariant: whatever leaves here has the form the contract gives it; a token that leaves anything out that is not
optional is refused, never completed.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from shared.contracts.ids import is_printable_ascii, is_token
from shared.http.identity import ACTOR_TYPES, Identity

TokenScope = Literal["runs:read", "runs:write"]
_SCOPES: Final = frozenset(get_args(TokenScope))


class ClaimsError(ValueError):
    """The message says which claim is not as it has to be, and quotes none of it."""


class Grant(NamedTuple):
    """Whom a token is about, and what it is good for here."""

    identity: Identity
    scopes: frozenset[str]
    """Of those there are in ``TokenScope``."""


def read_grant(claims: Mapping[str, Any], leeway_seconds: float) -> Grant:
    """The grant of a token whose signature and times were found good. Raises ``ClaimsError``.

    A claim that is null counts as absent; without ``scope`` the token is good for nothing, which is no fault of it.
    """
    subject = _text(claims, "sub")
    if not is_printable_ascii(subject, 128):
        raise ClaimsError("sub: expected 1-128 printable ASCII characters")
    actor_type = _text(claims, "actor_type")
    if actor_type not in ACTOR_TYPES:
        raise ClaimsError(f"actor_type: expected one of {', '.join(ACTOR_TYPES)}")
    workspace_id = _text(claims, "workspace")
    if not is_token(workspace_id):
        raise ClaimsError("workspace: expected 1-128 of A-Z a-z 0-9 _ -")
    rooms = _texts(claims, "rooms")
    if not all(map(is_token, rooms or ())):
        raise ClaimsError("rooms: expected room ids, each 1-128 of A-Z a-z 0-9 _ -")
    identity = Identity(
        workspace_id,
        actor_type,  # pyright: ignore[reportArgumentType]  # checked above
        subject,
        None if rooms is None else frozenset(rooms),
        _seconds(claims, "exp") + leeway_seconds,
    )
    return Grant(identity, _scopes(claims))


def read_start(claims: Mapping[str, Any]) -> float:
    """From when on the token is good, in seconds of the epoch: the later of ``nbf`` and ``iat``, or ever.

    Raises ``ClaimsError``.
    """
    return max((_seconds(claims, claim) for claim in ("nbf", "iat") if claims.get(claim) is not None), default=0.0)


def _given(claims: Mapping[str, Any], claim: str) -> Any:
    value = claims.get(claim)
    if value is None:
        raise ClaimsError(f"{claim}: missing")
    return value


def _text(claims: Mapping[str, Any], claim: str) -> str:
    value = _given(claims, claim)
    if not isinstance(value, str):
        raise ClaimsError(f"{claim}: expected text")
    return value


def _texts(claims: Mapping[str, Any], claim: str) -> list[str] | None:
    value = claims.get(claim)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in cast("list[Any]", value)):
        raise ClaimsError(f"{claim}: expected a list of texts")
    return cast("list[str]", value)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """RFC 8693, section 4.2: one text, separated by spaces; some issuers make a list of it."""
    value = claims.get("scope")
    scopes = value.split(" ") if isinstance(value, str) else _texts(claims, "scope")
    return _SCOPES.intersection(scopes or ())


def _seconds(claims: Mapping[str, Any], claim: str) -> float:
    value = _given(claims, claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ClaimsError(f"{claim}: expected seconds of the epoch")
    return float(value)
