"""What the relay tells readers has one form, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from shared.contracts.filled import Told, telling, told_in

TOLD = Told("2026-01-31T12:00:00.123456789Z/0", "0123456789abcdef")


def test_what_is_told_is_read() -> None:
    assert telling(TOLD) == b"2026-01-31T12:00:00.123456789Z/0 0123456789abcdef"
    assert told_in(telling(TOLD)) == TOLD


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        telling(TOLD) + b"\n",
        b" " + telling(TOLD),
        telling(TOLD) + telling(TOLD),
        telling(TOLD).upper(),
        telling(TOLD)[:-1],
        telling(TOLD._replace(identity="2026-01-31T12:00:00Z")),
        telling(TOLD._replace(identity="2026-01-31T12:00:00Z/-1")),
        telling(TOLD._replace(identity="2026-01-31T12:00:00Z/" + "9" * 19)),
        telling(TOLD._replace(identity="1" * 1_000_000 + "/0")),
        "2026-01-31T12:00:00Z/\N{ARABIC-INDIC DIGIT ONE} 0123456789abcdef".encode(),
    ],
    ids=lambda payload: repr(payload[:60]),
)
def test_what_is_of_another_form_tells_nothing(payload: bytes) -> None:
    assert told_in(payload) is None
