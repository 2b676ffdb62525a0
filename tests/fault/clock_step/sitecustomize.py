"""Steps the wall clock of this process by the seconds in ``CLOCK_STEP_FILE``; see ``tests/fault/clock.py``."""

import datetime as dt
import os
import time as _time
from pathlib import Path
from typing import Any

_file = Path(os.environ["CLOCK_STEP_FILE"])
_real_time = _time.time
_real_datetime = dt.datetime


def _offset() -> float:
    return float(_file.read_text())


class _Stepped(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real_datetime)


class datetime(_real_datetime, metaclass=_Stepped):  # noqa: N801
    """What it makes are real ones: extension modules take no others."""

    def __new__(cls, *arguments: Any, **named: Any) -> _real_datetime:
        return _real_datetime(*arguments, **named)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _real_datetime:
        return _real_datetime.now(tz) + dt.timedelta(seconds=_offset())


_time.time = lambda: _real_time() + _offset()
dt.datetime = datetime  # type: ignore[misc]  # what follows imports this one
