"""How far a fill has come: a bar at a terminal, a line a second elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_SECONDS = 1.0


@contextmanager
def progress(done: int, total: int, say: Callable[[str], None]) -> Generator[Callable[[int], None], None, None]:
    """Yields what is to be told how many events were filled since. ``say`` takes the lines."""
    if sys.stdout.isatty():
        columns = (TextColumn("filling"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        # Lines printed meanwhile go above the bar.
        with Progress(*columns) as bar:
            task = bar.add_task("", completed=done, total=total)
            yield lambda filled: bar.update(task, completed=done + filled)
        return
    lines = _Lines(done, total, say)
    yield lines.show
    lines.end()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} events/s")


class _Lines:
    def __init__(self, done: int, total: int, say: Callable[[str], None]) -> None:
        self._done = done
        self._total = total
        self._say = say
        self._started = self._said = time.monotonic()
        self._filled = 0

    def show(self, filled: int) -> None:
        self._filled = filled
        if time.monotonic() - self._said >= _LINE_SECONDS:
            self.end()

    def end(self) -> None:
        self._said = time.monotonic()
        done = self._done + self._filled
        total = max(self._total, done)  # more are written meanwhile
        rate = self._filled / max(self._said - self._started, 0.001)
        left = (total - done) / rate if rate else 0.0
        share = 100 * done / total if total else 100.0
        self._say(f"filled {done} of {total} events ({share:.0f} %), {rate:.0f}/s, {left:.0f} s left")
