import base64
import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.paging import (
    PageCursorError,
    RunPosition,
    fingerprint,
    read_run_cursor,
    read_step_cursor,
    write_run_cursor,
    write_step_cursor,
)

MARK = fingerprint("runs", "ws", ["a"])


@given(st.datetimes(timezones=st.just(UTC)), st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True))
def test_a_run_cursor_is_read_back_to_the_microsecond(moment: datetime, run_id: str) -> None:
    position = RunPosition(moment, run_id)
    text = write_run_cursor(MARK, position)
    assert read_run_cursor(MARK, text) == position
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.integers(0, 2**63 - 1))
def test_a_step_cursor_is_read_back(seq: int) -> None:
    assert read_step_cursor(MARK, write_step_cursor(MARK, seq)) == seq


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    for read in (read_run_cursor, read_step_cursor):
        with pytest.raises(PageCursorError):
            read(MARK, text)


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20))
def test_what_bears_the_mark_alone_never_breaks(number: int, rest: bytes) -> None:
    text = base64.urlsafe_b64encode(MARK + number.to_bytes(8, "big", signed=True) + rest).rstrip(b"=").decode()
    for read in (read_run_cursor, read_step_cursor):
        with contextlib.suppress(PageCursorError):
            read(MARK, text)


def test_a_cursor_of_another_list_is_refused() -> None:
    other = fingerprint("runs", "ws", ["b"])
    assert other != MARK
    with pytest.raises(PageCursorError, match="another list"):
        read_run_cursor(other, write_run_cursor(MARK, RunPosition(datetime(2026, 1, 1, tzinfo=UTC), "run_1")))
