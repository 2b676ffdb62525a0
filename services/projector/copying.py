"""How what a projection's fold writes goes into its tables by COPY, which is quicker than a statement of many rows.

Invariant: COPY and the statement of the same name in ``services/projector/sql`` write the same rows into tables that
hold none of them.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from services.projector.projections.base import Write
from shared.postgres import Connection


class Copy(NamedTuple):
    """Where the columns of a write go, in their order; ``constants`` are columns the statement sets by itself.

    ``same`` maps further columns to the number of the one they repeat. ``binary`` rows hold bytes.
    """

    view: str
    columns: tuple[str, ...]
    constants: tuple[tuple[str, str], ...] = ()
    same: tuple[tuple[str, int], ...] = ()
    binary: bool = False

    @property
    def all_columns(self) -> list[str]:
        return [*self.columns, *(name for name, _ in self.constants), *(name for name, _ in self.same)]


COPIES: dict[str, Copy] = {
    "runs_insert": Copy(
        "proj_runs",
        (
            *("run_id", "workspace_id", "room_id", "thread_id", "status", "title", "goal", "input", "output", "error"),
            *("summary", "tags", "created_at", "started_at", "ended_at", "updated_at", "correlation_id"),
            *("last_event_id", "stream_seq"),
        ),
    ),
    "steps_insert": Copy(
        "proj_steps",
        (
            *("step_id", "run_id", "workspace_id", "room_id", "thread_id", "kind", "title", "input", "created_at"),
            *("last_event_id", "stream_seq"),
        ),
        (("status", "queued"), ("output", "{}"), ("error", "{}")),
        (("updated_at", 8),),
    ),
    "room_events_insert": Copy(
        "proj_room_events", ("workspace_id", "room_id", "stream_seq", "stream_position", "envelope"), binary=True
    ),
}
"""By the name of the write; any other write is a statement to be run."""


async def copy_rows(connection: Connection, copy: Copy, write: Write, version: int) -> None:
    """Puts the rows into the table of that version. Raises what asyncpg raises, ``UniqueViolationError`` among it."""
    table = f"{copy.view}_v{version}"
    if copy.binary:
        rows = zip(*write.columns, strict=True)
        await connection.copy_records_to_table(table, records=rows, columns=copy.all_columns)
    else:
        source = _whole(text_rows(copy, write.columns))
        await connection.copy_to_table(table, source=source, columns=copy.all_columns, format="text")


async def _whole(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def text_rows(copy: Copy, columns: Sequence[Sequence[Any]]) -> bytes:
    """The rows in COPY's text format. Column by column, as most columns hold nothing that is to be escaped."""
    number = len(columns[0])
    given = [_texts(column) for column in columns]
    constants = [[value] * number for _, value in copy.constants]
    same = [given[at] for _, at in copy.same]
    lines = map("\t".join, zip(*given, *constants, *same, strict=True))
    return ("\n".join(lines) + "\n").encode()


def _texts(values: Sequence[Any]) -> Sequence[str]:
    """Strings or None, or whole numbers, as COPY reads them."""
    if isinstance(values[0], int):
        return [str(value) for value in values]
    if None in values:
        return [_NULL if value is None else _escaped(value) for value in values]
    return [_escaped(value) for value in values] if _is_special("".join(values)) else values


def _is_special(text: str) -> bool:
    return "\\" in text or "\n" in text or "\t" in text or "\r" in text


def _escaped(value: str) -> str:
    if _is_special(value):
        # The backslash first, as the others bring one.
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace("\t", r"\t").replace("\r", r"\r")
    return value


_NULL = r"\N"
