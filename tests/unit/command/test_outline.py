"""What is seen of a JSON text without reading it is what reading it would tell."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.command.http.outline import is_deeper, kept, outline

texts = st.text(alphabet='"\\[]{}é\n1,:', max_size=6)
values = st.recursive(
    st.none() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, cast("dict[str, Any]", value).values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, cast("list[Any]", value)), default=0)
    return 0


@given(values)
def test_it_is_as_deep_as_its_value(value: Any) -> None:
    text = msgspec.json.encode(value)
    assert not is_deeper(text, depth(value))
    assert depth(value) == 0 or is_deeper(text, depth(value) - 1)


@pytest.mark.parametrize("around", [0, 1, 7, 8, 190])
@pytest.mark.parametrize("many", [b"[],", b'{"a":1},', b'["["],', b'{"]":"\\\\"},'])
def test_many_side_by_side_are_no_deeper_than_one(around: int, many: bytes) -> None:
    text = b"[" * around + many * 500 + b"[]" + b"]" * around
    assert not is_deeper(text, around + 1)
    assert is_deeper(text, around)


@given(st.lists(texts))
def test_nothing_of_strings_is_in_an_outline(value: list[str]) -> None:
    numbers = kept(b"0123456789,[]", b"0000000000,[]")
    assert outline(msgspec.json.encode(value), numbers) == b"[%b]" % (b"," * max(len(value) - 1, 0))


def test_a_text_that_ends_within_a_string_is_outlined_up_to_it() -> None:
    assert outline(b'[1,"[[[', kept(b"1[,", b"1[,")) == b"[1,"
