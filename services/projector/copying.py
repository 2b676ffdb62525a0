"""How rows go into a table by COPY, which is quicker than a statement of many rows.

Invariant: COPY and the statement of the same name in ``services/projector/sql`` write the same rows into tables that
hold none of them. A connection that is lost ends a COPY at once, however much of it is still to be sent.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from struct import Struct
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


_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_LENGTH = Struct(">i")
_INTEGER = Struct(">iq")


async def copy_rows(connection: Connection, copy: Copy, write: Write, version: int) -> None:
    """Puts the rows into the table of that version. Raises what asyncpg raises, ``UniqueViolationError`` among it."""
    await copy_columns(connection, f"{copy.view}_v{version}", copy, write.columns)


async def copy_columns(connection: Connection, table: str, copy: Copy, columns: Sequence[Sequence[Any]]) -> None:
    """As ``copy_rows``, into any table that has the columns."""
    data = binary_rows(columns) if copy.binary else text_rows(copy, columns)
    # All at once, and as what is no path: between two parts the driver waits until the socket takes more, and for ever
    # where the connection is lost meanwhile.
    source: Any = memoryview(data)  # asyncpg's manual names buffers, its types do not
    kind = "binary" if copy.binary else "text"
    await connection.copy_to_table(table, source=source, columns=copy.all_columns, format=kind)


def binary_rows(columns: Sequence[Sequence[Any]]) -> bytes:
    """The rows in COPY's binary format: strings, bytes, and whole numbers for ``bigint``; no nulls.

    As PostgreSQL's manual gives it: https://www.postgresql.org/docs/current/sql-copy.html
    """
    start = repeat(len(columns).to_bytes(2), len(columns[0]))
    parts = [part for column in columns for part in _parts(column)]
    return b"".join((_SIGNATURE, *chain.from_iterable(zip(start, *parts, strict=True)), _END))


def _parts(values: Sequence[Any]) -> tuple[Iterable[bytes], ...]:
    """What the rows have of a column, one after the other."""
    if isinstance(values[0], int):
        return ([_INTEGER.pack(8, value) for value in values],)
    if isinstance(values[0], str):
        # Ids, which come again and again.
        known = {value: _field(value.encode()) for value in set(values)}
        return ([known[value] for value in values],)
    return map(_LENGTH.pack, map(len, values)), values


def _field(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


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
