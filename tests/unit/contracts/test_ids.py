"""Identifier forms."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.command.ids import MintedIds
from shared.contracts.ids import is_correlation_id, is_event_id, is_token
from shared.contracts.times import format_time, parse_time


@pytest.mark.parametrize("value", ["a", "A-z_9", "x" * 128])
def test_tokens(value: str) -> None:
    assert is_token(value)


@pytest.mark.parametrize("value", ["", "a.b", "a b", "a\n", "*", ">", "x" * 129, "é", "a/b", "\0"])
def test_not_tokens(value: str) -> None:
    assert not is_token(value)


def test_minted_ids_sort_by_creation_and_never_equal_an_event_id() -> None:
    ids = MintedIds()
    runs = [ids.run_id() for _ in range(2000)]
    assert runs == sorted(runs)
    assert len(set(runs)) == len(runs)
    assert all(run.startswith("run_") and len(run) == 30 for run in runs)
    assert is_event_id(ids.event_id())
    assert not is_event_id(runs[0])
    assert is_correlation_id(ids.correlation_id())


def test_times_have_microseconds_and_z() -> None:
    assert format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"
    assert format_time(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == "2026-01-01T00:00:00.000000Z"
    assert parse_time("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "2026-01-01", "2026-01-01T00:00:00", "now", "2026-13-01T00:00:00Z"])
def test_times_without_an_offset_are_no_times(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)
