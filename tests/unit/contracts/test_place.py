"""An event is of the room that its envelope names, and of no other."""

import json
from pathlib import Path

import pytest

from shared.contracts.ids import RoomKey
from shared.contracts.place import is_misplaced

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.v1.json"))
LOBBY = RoomKey("ws_dev", "lobby")
OTHERS = [RoomKey("ws_dev", "lobb"), RoomKey("ws_dev", "lobby_2"), RoomKey("ws", "lobby"), RoomKey("ws_de", "v")]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_every_event_is_in_its_own_room_alone(path: Path) -> None:
    envelope = path.read_bytes()
    assert not is_misplaced(envelope, LOBBY)
    assert all(is_misplaced(envelope, room) for room in OTHERS)


def test_the_order_of_members_does_not_matter() -> None:
    members = json.loads(GOLDEN[0].read_bytes())
    members |= {"data": {"workspace_id": "ws", "room_id": "r"}}
    for separators in ((",", ":"), (", ", ": ")):
        envelope = json.dumps(dict(reversed(members.items())), separators=separators).encode()
        assert envelope.startswith(b'{"data"')
        assert not is_misplaced(envelope, LOBBY)
        assert is_misplaced(envelope, RoomKey("ws", "r"))


def test_what_a_client_says_does_not_matter() -> None:
    members = json.loads(GOLDEN[0].read_bytes())
    place = {"workspace_id": "ws", "room_id": "r"}
    envelope = json.dumps({**members, "actor_id": json.dumps(place), "data": place}, separators=(",", ":")).encode()
    assert not is_misplaced(envelope, LOBBY)
    assert is_misplaced(envelope, RoomKey("ws", "r"))


@pytest.mark.parametrize("envelope", [b"", b"{", b"\xff", b"[]", b"{}", b'{"workspace_id":"ws"}', b"[" * 100_000])
def test_what_cannot_be_read_is_not_called_misplaced(envelope: bytes) -> None:
    assert not is_misplaced(envelope, LOBBY)
