from services.query.statement import OptionalStatement

SOURCE = """\
-- A comment that says :nothing.
select a::text
from t
where w = :w
and a = :a -- if a
and b = any(:b::text[]) and a <> :a -- if b
order by x -- if not b
limit :n
"""


def test_lines_come_with_what_they_are_for() -> None:
    statement = OptionalStatement(SOURCE)
    assert statement.bind({"n": 5, "w": 1}) == ("select a::text\nfrom t\nwhere w = $1\norder by x\nlimit $2", [1, 5])
    assert statement.bind({"b": [2], "n": 5, "w": 1, "a": 9}) == (
        "select a::text\nfrom t\nwhere w = $1\nand a = $2\nand b = any($3::text[]) and a <> $2\nlimit $4",
        [1, 9, [2], 5],
    )
