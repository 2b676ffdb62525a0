"""Who is calling, and in which workspace.

Invariant: every handler works for exactly one ``Identity``, taken here and nowhere else. With authentication on it is
the token's, and no header can make it another.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, cast, get_args

from litestar import Request

from shared.contracts.events import ActorType
from shared.contracts.ids import is_printable_ascii, is_token
from shared.http.fields import single
from shared.http.problems import insufficient_scope, invalid_request

DEFAULT_WORKSPACE = "ws_dev"
ACTOR_TYPES: tuple[str, ...] = get_args(ActorType)


class Identity(NamedTuple):
    """``rooms`` are the only ones it may see, None for all of its workspace; ``expires_at`` is in seconds of the epoch,
    None when there is no token that could expire."""

    workspace_id: str
    actor_type: ActorType
    actor_id: str
    rooms: frozenset[str] | None = None
    expires_at: float | None = None

    def may_see(self, room_id: str) -> bool:
        """Whether the room is one that it may read and write."""
        return self.rooms is None or room_id in self.rooms

    def require_room(self, room_id: str) -> None:
        """Raises a 403 ``Problem`` for a room that it may not see, which the client has named itself."""
        if self.rooms is not None and room_id not in self.rooms:
            raise insufficient_scope("room_id: the token is limited to other rooms")


Identify = Callable[[Request[Any, Any, Any]], Identity]


def identify_by_headers(origins: Collection[str]) -> Identify:
    """The caller by the headers ``x-workspace-id``, ``x-actor-type`` and ``x-actor-id`` (authentication off).

    Raises a 400 ``Problem`` that names the header when one is malformed, or sent more than once, and for a command of
    a page whose origin is neither the service's own nor one of ``origins``: a browser sends that without asking first.
    """

    def identify(request: Request[Any, Any, Any]) -> Identity:
        if request.method == "POST":
            _require_own_page(request, origins)
        workspace_id = _given(single(request, "x-workspace-id"), DEFAULT_WORKSPACE)
        if not is_token(workspace_id):
            raise invalid_request("x-workspace-id: expected 1-128 of A-Z a-z 0-9 _ -")
        actor_type = _given(single(request, "x-actor-type"), "service")
        if actor_type not in ACTOR_TYPES:
            raise invalid_request(f"x-actor-type: expected one of {', '.join(ACTOR_TYPES)}")
        actor_id = _given(single(request, "x-actor-id"), "api")
        if not is_printable_ascii(actor_id, 128):
            raise invalid_request("x-actor-id: expected 1-128 printable ASCII characters")
        return Identity(workspace_id, actor_type, actor_id)  # pyright: ignore[reportArgumentType]  # checked above

    return identify


def _require_own_page(request: Request[Any, Any, Any], origins: Collection[str]) -> None:
    origin = single(request, "Origin")
    if origin is None or origin in origins:
        return
    if origin.partition("://")[2] != request.headers.get("host"):
        raise invalid_request("Origin: with authentication off, commands of other origins' pages are not taken")


def _given(value: str | None, default: str) -> str:
    return default if value is None else value  # what is sent empty is malformed


def identify_by_token(request: Request[Any, Any, Any]) -> Identity:
    """The caller by the token that let the request in (authentication on).

    ``x-workspace-id`` may be sent along, for clients that always do. Raises a 403 ``Problem`` when it is another than
    the token's.
    """
    # Not there for a route that nothing protects: a KeyError, and never a stranger let in.
    identity = cast("Identity", request.scope["user"])
    named = single(request, "x-workspace-id")
    if named is not None and named != identity.workspace_id:
        raise insufficient_scope("x-workspace-id: the token is for another workspace")
    return identity
