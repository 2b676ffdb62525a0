"""Where events and progress travel: stream name, subjects, partitions and header names.

Invariant: a room's subject is a pure function of its key, the same in every service and release. Changing
``PARTITIONS`` or the hash moves rooms between partitions and needs a new stream.
"""

from functools import lru_cache

STREAM = "ROOMS"
STREAM_SUBJECTS = "rooms.>"
PARTITIONS = 32

HEADER_EVENT_ID = "Nats-Msg-Id"
HEADER_EVENT_TYPE = "Runroom-Event-Type"
HEADER_STREAM_SEQ = "Runroom-Stream-Seq"
HEADER_TRACEPARENT = "traceparent"

RELAY_WAKE_SUBJECT = "relay.wake"
"""Core NATS ping to the relay's leader: another instance has committed events."""

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


def partition_filter(partition: int) -> str:
    """The subject filter of everything in one partition."""
    return f"rooms.{partition}.*.*"


def progress_subject(workspace_id: str, room_id: str) -> str:
    """Where projectors announce that a room's projection has moved.

    The payload is a JSON object ``{"projection": name, "stream_seq": applied}``. ``*`` as room id listens to a whole
    workspace.
    """
    return f"projected.{workspace_id}.{room_id}"
