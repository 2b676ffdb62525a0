"""Rows as COPY reads them: what is special to its text format is escaped, whatever the rest of the column holds."""

from services.projector.copying import COPIES, text_rows

_COLUMNS = COPIES["steps_insert"].columns


def rows(**given: list) -> list[list[str]]:
    number = len(next(iter(given.values())))
    columns = [given.get(name, [1] * number if name == "stream_seq" else ["x"] * number) for name in _COLUMNS]
    text = text_rows(COPIES["steps_insert"], columns).decode()
    assert text.endswith("\n")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def test_nothing_is_escaped_that_need_not_be() -> None:
    [row] = rows(title=["plain 'ü' \"quoted\", and 🙂"], input=['{"a":1}'], stream_seq=[7])
    assert row[_COLUMNS.index("title")] == "plain 'ü' \"quoted\", and 🙂"
    assert row[_COLUMNS.index("input")] == '{"a":1}'
    assert row[_COLUMNS.index("stream_seq")] == "7"


def test_what_ends_a_field_or_a_row_does_not() -> None:
    found = rows(title=["a\tb", "a\nb", "a\r\nb", "plain"])
    assert [row[_COLUMNS.index("title")] for row in found] == [r"a\tb", r"a\nb", r"a\r\nb", "plain"]


def test_null_and_what_looks_like_it_are_told_apart() -> None:
    found = rows(title=[None, r"\N", "", r"\."], input=['"\\n"'] * 4)
    assert [row[_COLUMNS.index("title")] for row in found] == [r"\N", r"\\N", "", r"\\."]
    assert found[0][_COLUMNS.index("input")] == r'"\\n"'


def test_constants_and_repeated_columns_come_last() -> None:
    [row] = rows(created_at=["then"])
    assert row[len(_COLUMNS) :] == ["queued", "{}", "{}", "then"]
