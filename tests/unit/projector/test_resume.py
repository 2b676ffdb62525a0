"""Where to go on in a stream that may have had another life."""

import pytest

from services.projector.stream_watch import resume_after
from shared.messaging.stream import StreamIdentity, StreamState

CREATED = "2026-01-31T12:00:00.123456789Z"
STREAM = StreamIdentity(CREATED, 2, rewound_to=300)


@pytest.mark.parametrize(
    ("key", "position", "after"),
    [
        (STREAM.key, 500, 500),
        # Somebody's, whom the stream has yet to come to; or the stream was seen a moment before that.
        (STREAM.key, 2**63 - 1, 1000),
        (f"{CREATED}/1", 500, 300),
        (f"{CREATED}/1", 200, 200),
        # Cut twice since: only the last cut is known.
        (f"{CREATED}/0", 500, 0),
        # Somebody's restored checkpoint from the future.
        (f"{CREATED}/3", 500, 0),
        ("2025-12-24T18:00:00Z/2", 500, 0),
        ("", 0, 0),
        ("nonsense", 500, 0),
        (f"{CREATED}/{'9' * 5000}", 500, 0),
    ],
)
def test_a_position_is_only_used_in_its_own_stream(key: str, position: int, after: int) -> None:
    assert resume_after(key, position, StreamState(STREAM, 1, 1000, is_filled=True)) == after
