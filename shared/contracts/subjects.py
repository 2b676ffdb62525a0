"""Where events and progress travel: stream name, subjects, partitions and header names.

Invariant: a room's subject is a pure function of its key, the same in every service and release. Changing
``PARTITIONS`` or the hash moves rooms between partitions and needs a new stream.
"""

from collections.abc import Mapping
from functools import lru_cache

from shared.contracts.ids import RoomKey, is_token
from shared.contracts.tracecontext import is_sampled, is_traceparent

STREAM = "ROOMS"
STREAM_SUBJECTS = "rooms.>"
PARTITIONS = 32

HEADER_EVENT_ID = "Nats-Msg-Id"
HEADER_EVENT_TYPE = "Runroom-Event-Type"
HEADER_STREAM_SEQ = "Runroom-Stream-Seq"
HEADER_TRACEPARENT = "traceparent"

RELAY_WAKE_SUBJECT = "relay.wake"
"""Core NATS ping to the relay's leader: another instance has committed events."""
RELAY_FILLED_SUBJECT = "relay.filled"
"""Core NATS message of the relay's leader to readers, who may not ask: the stream is filled (``filled.py``)."""

_SEQ_DIGITS = 18
MOST_STREAM_SEQ = 10**_SEQ_DIGITS - 1
"""The last number an event of a room can have: readers take no longer one for a number."""
_SEQ_LINE = f"\r\n{HEADER_STREAM_SEQ}:".encode()
_TRACE_LINE = f"\r\n{HEADER_TRACEPARENT}:".encode()
CUT_OFF = -2
"""Where headers end by direct get: NATS cuts their last two bytes off, whatever they are, and appends its own."""
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193


def fnv1a_32(data: bytes) -> int:
    """FNV-1a, 32 bit (draft-eastlake-fnv)."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value


@lru_cache(maxsize=65536)
def partition_of(workspace_id: str, room_id: str) -> int:
    """The room's partition, 0 to ``PARTITIONS`` - 1."""
    return fnv1a_32(f"{workspace_id}.{room_id}".encode()) % PARTITIONS


def room_subject(workspace_id: str, room_id: str) -> str:
    """The subject a room's events are published on."""
    return f"rooms.{partition_of(workspace_id, room_id)}.{workspace_id}.{room_id}"


def room_of(subject: str) -> RoomKey | None:
    """The room whose subject this is, or None: others may write below ``rooms.`` too."""
    tokens = subject.split(".")
    if len(tokens) != 4 or not is_token(tokens[2]) or not is_token(tokens[3]):
        return None
    return RoomKey(tokens[2], tokens[3])


def matches(pattern: str, subject: str) -> bool:
    """Whether the pattern means the subject: ``*`` in it is any token, ``>`` at its end all that follow."""
    wanted, found = pattern.split("."), subject.split(".")
    if wanted[-1] == ">" and len(found) >= len(wanted):
        wanted.pop()
        del found[len(wanted) :]
    return len(wanted) == len(found) and all(map(_means, wanted, found))


def _means(wanted: str, found: str) -> bool:
    return wanted in ("*", found)


def stream_seq_of(headers: Mapping[str, str] | None) -> int:
    """The stream_seq that the headers of an event carry; 0, which no event has, for any other message's."""
    seq = headers.get(HEADER_STREAM_SEQ, "") if headers else ""
    return int(seq) if seq.isdecimal() and seq.isascii() and len(seq) <= _SEQ_DIGITS else 0


def stream_seq_in(raw: bytes) -> int:
    """The same from headers as they came, without taking them all apart.

    That of the last line with the name, as there, and none if that line has no end before the last two bytes: nobody
    who reads an event by one road takes it for another than who reads it by the other.
    """
    start = raw.rfind(_SEQ_LINE, 0, CUT_OFF) + len(_SEQ_LINE)
    end = raw.find(b"\r\n", start, CUT_OFF)
    if start < len(_SEQ_LINE) or end < 0:
        return 0
    seq = raw[start:end].strip(b" \t")
    return int(seq) if seq.isdigit() and len(seq) <= _SEQ_DIGITS else 0


def sampled_trace_in(raw: bytes) -> str | None:
    """The ``traceparent`` in headers as they came, if the trace is recorded."""
    start = raw.find(_TRACE_LINE) + len(_TRACE_LINE)
    if start < len(_TRACE_LINE):
        return None
    value = raw[start : raw.find(b"\r\n", start)].strip().decode("latin-1")
    return value if is_traceparent(value) and is_sampled(value) else None


def partition_filter(partition: int) -> str:
    """The subject filter of everything in one partition."""
    return f"rooms.{partition}.*.*"


def progress_subject(workspace_id: str, room_id: str) -> str:
    """Where projectors announce that a room's projection has moved.

    The payload is a JSON object ``{"projection": name, "stream_seq": applied}``. ``*`` as room id listens to a whole
    workspace.
    """
    return f"projected.{workspace_id}.{room_id}"
