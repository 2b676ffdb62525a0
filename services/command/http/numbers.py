"""Bounds on numbers: those that take long to read are few, and integers are no larger than other numbers may be.

Invariant: the numbers of a body hold the process for some 40 ms at the most. One with an exponent of three digits may
take 10 µs to read, as only exact arithmetic tells the double nearest to it; 150,000 of them in one body took 1.3 s.
"""

import re
import sys
from typing import Final

from shared.http.problems import invalid_request

MAX_LONG_EXPONENTS: Final = 5000
"""40 ms at the most."""
_FEWEST_BYTES: Final = MAX_LONG_EXPONENTS * len("1e100,")
"""A shorter body cannot have more of them, so it is not looked at."""
_LONG_EXPONENT: Final = re.compile(rb"e(?<=[0-9]e)[-+]?[0-9]{3}")
"""Begins with the letter itself, which is searched for several times faster than any of ten digits."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""One without an end goes to the end, so that no body is searched twice."""
_MOST_DIGITS: Final = sys.float_info.max_10_exp + 1
"""Of an integer that a double can hold; with one digit less, any integer is one of those."""
_STEP: Final = _MOST_DIGITS // 3
_DIGITS_A_STEP_APART: Final = re.compile(rb"[0-9]{3}")
_LONG_INTEGER: Final = re.compile(rb"[0-9]{%d}" % _MOST_DIGITS)


def check_numbers(raw: bytes) -> None:
    """Raises a 400 ``Problem`` for a body with too many numbers that take long to read.

    Takes 0.07 µs for an ordinary body and up to 30 ms for 1 MiB of hexadecimal text; one that is made for it, 100 ms.
    """
    if len(raw) <= _FEWEST_BYTES:
        return
    raw = raw.lower()
    if not _has_more(raw):
        return
    # Text may look like that too: ids in hexadecimal do.
    if _has_more(_STRING.sub(b'""', raw)):
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
        and _LONG_INTEGER.search(raw) is not None
    )


def is_huge(number: int) -> bool:
    """Whether it is an integer that no IEEE 754 double can hold."""
    return not -sys.float_info.max <= number <= sys.float_info.max


def _has_more(raw: bytes) -> bool:
    return len(_LONG_EXPONENT.findall(raw)) > MAX_LONG_EXPONENTS
