"""Times in the one form that the contract has."""

from datetime import UTC, datetime

import pytest

from shared.contracts.times import format_time, is_time


@pytest.mark.parametrize(
    "text", ["2026-01-31T12:00:00.123456Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"]
)
def test_the_form_of_the_contract_is_one(text: str) -> None:
    assert is_time(text)


def test_what_is_written_is_one() -> None:
    assert is_time(format_time(datetime.now(UTC)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "today", "infinity", "-infinity", "epoch", "\ud800", "x" * 100_000),
        *("0044-03-15 00:00:00 BC", "2026-01-31T12:00:00.123456Z BC", "10000-01-01T00:00:00.000000Z"),
        *("0001-01-01T00:00:00.000000+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-01-31T12:00:00.123456+00:00"),
        *("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123Z", "2026-01-31 12:00:00.123456Z"),
        *("2026-W05-6T12:00:00.123456Z", "2026-01-31T12:00:00,123456Z", "2026-01-31T12:00:00.123456"),
        *("2026-01-31T24:00:00.000000Z", "2026-01-31T12:00:60.000000Z", "2026-02-30T12:00:00.000000Z"),
        *("0000-01-01T00:00:00.000000Z", "9999-12-31T24:00:00.000000Z"),
    ],
)
def test_nothing_else_is(text: str) -> None:
    assert not is_time(text)
