"""The room stream's route: everything that can still be refused is refused here, before the first byte."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.query.feed.cursor import CursorError, parse_start
from services.query.feed.hub import Hub
from services.query.feed.response import RoomStream
from services.query.feed.streams import Streams
from services.query.http.describe import STREAM_ROOM
from services.query.http.parameters import Parameters
from shared.contracts.ids import is_token
from shared.http.cors import Cors
from shared.http.fields import single
from shared.http.identity import Identify
from shared.http.negotiation import require_acceptable
from shared.http.problems import Problem, invalid_request


def stream_route(hub: Hub, streams: Streams, identify: Identify, cors: Cors) -> HTTPRouteHandler:
    """The handler, bound to the rooms and to how callers are known; ``cors`` is for the head that it writes itself."""

    @get(
        "/v1/streams/rooms/{room_id:str}",
        operation_id="StreamRoom",
        summary="Follow a room: its history, then what happens",
        tags=["streams"],
        operation_class=STREAM_ROOM,
    )
    async def stream_room(request: Request[Any, Any, Any], room_id: FromPath[str]) -> ASGIApp:
        if request.scope["http_version"] == "1.0":
            # All clients of a room are sent the same bytes, in chunks, which these do not know (RFC 9112, 6.1).
            raise invalid_request("HTTP/1.0: a stream is for clients of HTTP/1.1 or later")
        require_acceptable(request, "text/event-stream")
        identity = identify(request)
        if not is_token(room_id):
            raise invalid_request("room_id: expected 1-128 of A-Z a-z 0-9 _ -")
        identity.require_room(room_id)
        last_event_id, from_seq = single(request, "Last-Event-ID"), Parameters(request).text("from_seq")
        try:
            start = parse_start(last_event_id, from_seq)
        except CursorError as error:
            raise Problem(400, "invalid_cursor", str(error)) from None
        return RoomStream(hub, streams, identity, room_id, start, cors.head_lines(request.scope["headers"]))

    return stream_room
