import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.feed.cursor import LATEST, MOST_SEQ, CursorError, Verdict, judge, parse_seq, parse_start


@given(st.integers(0, MOST_SEQ))
def test_every_position_is_read_back(seq: int) -> None:
    assert parse_seq(str(seq)) == seq


@given(st.text())
def test_what_is_read_is_a_plain_number(text: str) -> None:
    try:
        seq = parse_seq(text)
    except CursorError:
        return
    assert text.isascii()
    assert text.isdecimal()
    assert 0 <= seq <= MOST_SEQ


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "-0", "1_0", "0x1", "1e3", "\u0661", "²", str(2**63), "0" * 20])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(CursorError):
        parse_seq(text)


@pytest.mark.parametrize(
    ("last_event_id", "from_seq", "start"),
    [
        (None, None, 0),
        ("", None, 0),
        (None, "7", 7),
        (None, "latest", LATEST),
        ("", "7", 7),
        ("3", "7", 3),
        ("3", "latest", 3),
        ("0", "7", 0),
        ("3", "nonsense that a browser's reconnect must not fail on", 3),
    ],
)
def test_where_a_stream_starts(last_event_id: str | None, from_seq: str | None, start: object) -> None:
    assert parse_start(last_event_id, from_seq) == start


@pytest.mark.parametrize(
    ("last_event_id", "from_seq", "name"),
    [("latest", None, "Last-Event-ID"), ("x", "7", "Last-Event-ID"), (None, "", "from_seq"), (None, "-1", "from_seq")],
)
def test_a_refusal_names_the_member(last_event_id: str | None, from_seq: str | None, name: str) -> None:
    with pytest.raises(CursorError, match=f"^{name}: "):
        parse_start(last_event_id, from_seq)


@given(st.integers(0, 20), st.lists(st.integers(1, 20)))
def test_a_cursor_moves_by_one_or_not_at_all(cursor: int, arriving: list[int]) -> None:
    for seq in arriving:
        verdict = judge(cursor, seq)
        assert (verdict is Verdict.NEXT) is (seq == cursor + 1)
        assert (verdict is Verdict.ALREADY) is (seq <= cursor)
        if verdict is Verdict.NEXT:
            cursor = seq
