"""What a room stream is made of on the wire: event frames, the named control frames, comments.

Invariant: an event's frame is ``id`` and ``data`` and nothing else, the envelope's bytes as they are; it is encoded
once and shared by every viewer. Control frames are named and carry no id, so a browser never resumes from one.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

ResetReason = Literal["cursor_ahead", "history_trimmed"]
StreamLimit = Literal["process", "room", "principal", "shutdown"]
EdgeLimit = Literal[StreamLimit, "service"]
"""The last is what an edge says that cannot pass a stream on (deploy/edge/nginx.conf)."""

BUSY_RETRY_MS = 5000

MOST_SEQ = 2**53 - 1
"""The last number that JSON has in common. No event has a higher one; a row or a message that somebody made up may."""

Position = Annotated[int, Meta(extra_json_schema={"minimum": 0})]


class CaughtUp(Struct, frozen=True):
    """History is sent, up to and including ``stream_seq``; what follows is live."""

    stream_seq: Position


class Reset(Struct, frozen=True):
    """The cursor cannot be honoured; ``first_seq`` to ``head_seq`` are the events there are, and the stream goes on."""

    reason: ResetReason
    first_seq: Position
    head_seq: Position


class Busy(Struct, frozen=True):
    """There is no room for one more stream; ``limit`` says where. The stream ends; the client comes back later."""

    limit: EdgeLimit


def chunk(*frames: bytes) -> bytes:
    """The frames as one chunk of an HTTP/1.1 body, framed once for every client that gets them.

    Nothing for no frames: an empty chunk would end the body.
    """
    size = sum(map(len, frames))
    return b"".join((b"%x\r\n" % size, *frames, b"\r\n")) if size else b""


HEARTBEAT = chunk(b":\n\n")


def is_one_line(envelope: bytes) -> bool:
    """Whether the envelope fits a frame: what came after a line break would be a field, or a frame, of its own.

    Takes 0.3 µs of a usual one. JSON as it is written here has none.
    """
    return b"\n" not in envelope and b"\r" not in envelope


def event_frame(stream_seq: int, envelope: bytes) -> bytes:
    """The frame of one event. ``envelope`` is one line of JSON, as ``is_one_line`` says."""
    return b"id: %d\ndata: %b\n\n" % (stream_seq, envelope)


def retry_frame(milliseconds: int) -> bytes:
    """How long a browser waits before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def caught_up_frame(stream_seq: int) -> bytes:
    """History is sent, up to and including ``stream_seq``."""
    return _control("caught-up", CaughtUp(min(stream_seq, MOST_SEQ)))


def reset_frame(reason: ResetReason, first_seq: int, head_seq: int) -> bytes:
    """The cursor cannot be honoured; ``first_seq`` to ``head_seq`` are the events there are."""
    return _control("reset", Reset(reason, min(first_seq, MOST_SEQ), min(head_seq, MOST_SEQ)))


def busy_frame(limit: StreamLimit) -> bytes:
    """There is no room for one more stream; ``limit`` says where."""
    return _control("busy", Busy(limit))


def _control(name: str, data: CaughtUp | Reset | Busy) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
