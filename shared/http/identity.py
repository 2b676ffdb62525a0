"""Who is calling, and in which workspace.

Invariant: every handler works for exactly one ``Identity``, taken here and nowhere else.
"""

from typing import Any, NamedTuple, get_args

from litestar import Request

from shared.contracts.events import ActorType
from shared.contracts.ids import is_printable_ascii, is_token
from shared.http.problems import invalid_request

DEFAULT_WORKSPACE = "ws_dev"
_ACTOR_TYPES: tuple[str, ...] = get_args(ActorType)


class Identity(NamedTuple):
    workspace_id: str
    actor_type: ActorType
    actor_id: str


def identify(request: Request[Any, Any, Any]) -> Identity:
    """The caller by the headers ``x-workspace-id``, ``x-actor-type`` and ``x-actor-id`` (authentication off).

    Raises a 400 ``Problem`` that names the header when one is malformed.
    """
    headers = request.headers
    workspace_id = headers.get("x-workspace-id") or DEFAULT_WORKSPACE
    if not is_token(workspace_id):
        raise invalid_request("x-workspace-id: expected 1-128 of A-Z a-z 0-9 _ -")
    actor_type = headers.get("x-actor-type") or "service"
    if actor_type not in _ACTOR_TYPES:
        raise invalid_request(f"x-actor-type: expected one of {', '.join(_ACTOR_TYPES)}")
    actor_id = headers.get("x-actor-id") or "api"
    if not is_printable_ascii(actor_id, 128):
        raise invalid_request("x-actor-id: expected 1-128 printable ASCII characters")
    return Identity(workspace_id, actor_type, actor_id)  # pyright: ignore[reportArgumentType]  # checked above
