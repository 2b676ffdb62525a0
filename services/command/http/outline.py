"""The outline of a JSON text: what stands outside of its strings, and how deep that is nested.

Invariant: a text is looked at as bytes, never value by value, which takes 1 to 15 ms for 1 MiB, whatever it is made of;
a walk over the values took up to 400. Of a text that is no JSON it is right as far as a decoder gets.
"""

from itertools import accumulate
from operator import add
from typing import Final, NamedTuple


class Kept(NamedTuple):
    """The bytes that an outline keeps, and what it has for them; strings' quotes among them."""

    table: bytes
    deleted: bytes


def kept(given: bytes, shown: bytes) -> Kept:
    """Each of the ``given`` bytes is shown as the one at its place in ``shown``."""
    return Kept(bytes.maketrans(given, shown), bytes(byte for byte in range(256) if byte not in given + b'"'))


_BRACKETS: Final = kept(b"{[}]", b"1100")
_NET: Final = tuple(2 * byte.bit_count() - 8 for byte in range(256))
"""How much deeper it is after eight brackets, a bit each, than before them."""
_PEAK: Final = tuple(max(accumulate((2 * int(bit) - 1 for bit in f"{byte:08b}"), initial=0)) for byte in range(256))
"""How much deeper it is somewhere within them."""


def outline(text: bytes, kept: Kept) -> bytes:
    """What stands outside of strings, as far as it is kept."""
    if b"\\" in text:
        # In this order: of a run of backslashes, each second one is what the one before it stands for.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side are an empty string, or the end of one and the beginning of the next.
    text = text.translate(kept.table, kept.deleted).replace(b'""', b"")
    return b"".join(text.split(b'"')[::2]) if b'"' in text else text


def is_deeper(text: bytes, most: int) -> bool:
    """Whether more than ``most`` arrays and objects stand within one another."""
    if text.count(b"{") + text.count(b"[") <= most:
        return False
    brackets = outline(text, _BRACKETS)
    if brackets.count(b"1") <= most:
        return False
    # Without the innermost ones it is one level less, and often nothing is left.
    brackets = brackets.replace(b"10", b"")
    size = len(brackets) // 8 + 1
    packed = int(brackets.ljust(size * 8, b"0"), 2).to_bytes(size)
    depths = accumulate(map(_NET.__getitem__, packed), initial=0)
    return max(map(add, depths, map(_PEAK.__getitem__, packed))) + 1 > most
