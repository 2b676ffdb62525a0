"""How much work something is: in calls, which are the same however busy the machine is."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Calls:
    """How many functions were called, those in C among them."""

    count = 0

    def see(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1


@contextmanager
def counted() -> Generator[Calls, None, None]:
    """What this thread calls meanwhile."""
    calls = Calls()
    before = sys.getprofile()
    sys.setprofile(calls.see)
    try:
        yield calls
    finally:
        sys.setprofile(before)
