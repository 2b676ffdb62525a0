"""Bounds on numbers: those that take long to read are few, and integers are no larger than other numbers may be.

Invariant: the numbers of a body hold the process for some 70 ms at the most, beside what the rest of it takes. One with
an exponent of three digits may take 14 µs to read, as only exact arithmetic tells the double nearest to it; 170,000 of
them in one body took 2.4 s.
"""

import re
import sys
from typing import Final

from services.command.http.outline import kept, outline
from shared.contracts.numbers import count_long_exponents, count_shapes
from shared.http.problems import invalid_request

MAX_LONG_EXPONENTS: Final = 5000
_FEWEST_BYTES: Final = MAX_LONG_EXPONENTS * len("1e100,")
"""A shorter body cannot have more of them, so they are not counted."""
_BETWEEN: Final = b",:[]{} \t\r\n"
_SHAPES: Final = kept(b"0123456789eE+-" + _BETWEEN, b"0000000000ee--" + _BETWEEN)
"""Of numbers: which digit, letter or sign it is does not matter."""
_DIGITS: Final = kept(b"0123456789" + _BETWEEN, b"0123456789" + _BETWEEN)
_LARGEST: Final = b"%d" % int(sys.float_info.max)
_MOST_DIGITS: Final = len(_LARGEST)
"""Of an integer that a double can hold; with one digit less, any integer is one of those."""
_STEP: Final = _MOST_DIGITS // 3
_DIGITS_A_STEP_APART: Final = re.compile(rb"[0-9]{3}")
_LONG_INTEGER: Final = re.compile(rb"(?<![0-9])[0-9]{%d,}" % _MOST_DIGITS)
"""Tried once where digits begin, and not again at each of them."""
_ANY_DIGIT: Final = kept(b"0123456789", b"0000000000")
_ZEROS: Final = b"0" * _MOST_DIGITS


def check_numbers(raw: bytes) -> None:
    """Raises a 400 ``Problem`` for a body with too many numbers that take long to read.

    Takes 0.07 µs for an ordinary body and some 5 ms for 1 MiB of hexadecimal text; one that is made for it, 20 ms.
    """
    if len(raw) <= _FEWEST_BYTES or count_long_exponents(raw) <= MAX_LONG_EXPONENTS:
        return
    # Text may look like that too: ids in hexadecimal do.
    if count_shapes(outline(raw, _SHAPES)) > MAX_LONG_EXPONENTS:
        raise invalid_request(
            f"body: more than {MAX_LONG_EXPONENTS} numbers have an exponent of three digits, and take too long to read"
        )


def may_have_huge_integers(raw: bytes) -> bool:
    """Whether so many digits stand together somewhere that they may be an integer which no double can hold.

    Takes 0.5 µs for 5 KB of text: of so many digits, three are found by looking at every 103rd byte.
    """
    return (
        len(raw) > _MOST_DIGITS
        and _DIGITS_A_STEP_APART.search(raw[::_STEP]) is not None
        and _ZEROS in raw.translate(_ANY_DIGIT.table)
    )


def has_huge_integers(encoded: bytes) -> bool:
    """Whether there is an integer that no IEEE 754 double can hold.

    In what the encoder has written: it writes no other number with so many digits.
    """
    for integer in _LONG_INTEGER.finditer(outline(encoded, _DIGITS)):
        digits = integer[0]
        if len(digits) > _MOST_DIGITS or digits > _LARGEST:
            return True
    return False
