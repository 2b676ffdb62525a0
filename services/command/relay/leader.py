"""One relay leads; any instance takes over.

Invariant: leadership is a PostgreSQL session that holds an advisory lock. It ends with the session: when the process
dies, when the connection breaks, or when the process gets on with nothing for longer than ``LEASE_SECONDS``: what takes
long says a word to PostgreSQL at each step it has made. Whoever wakes up late is stopped by the stream's fence, not by
a clock.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import asyncpg

from shared.postgres import FIND_THE_GONE, Connection

LEASE_SECONDS = 3
"""How long a leader may say nothing to PostgreSQL before its session is ended."""

LOCK_MILLISECONDS = 300
"""How long a leader waits for a room that somebody else has locked."""

_LOCK = 0x52656C6179
"""Advisory lock key: the bytes of "Relay"."""


async def try_to_lead(connection: Connection) -> bool:
    """Makes the session the leader's unless another one is. Raises one of ``STORE_ERRORS``."""
    if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        return False
    await connection.execute(
        f"set idle_session_timeout = '{LEASE_SECONDS}s'; {FIND_THE_GONE}; set lock_timeout = '{LOCK_MILLISECONDS}ms';"
        # What a leader records is on the stream already: lost in a crash, it is read from there again.
        " set synchronous_commit = off"
    )
    return True


async def keep_leading(connection: Connection) -> None:
    """The word to PostgreSQL, for whoever has none to say. Raises one of ``STORE_ERRORS``."""
    await connection.execute("select")


@contextlib.asynccontextmanager
async def while_leading(connection: Connection) -> AsyncGenerator[None, None]:
    """Ends the block when the session ends, whatever is waited for in it. Raises one of ``STORE_ERRORS``."""
    lease = asyncio.timeout(None)

    def end(_: object) -> None:
        # The driver calls a turn later, when the block may have come to its end.
        with contextlib.suppress(RuntimeError):
            lease.reschedule(asyncio.get_running_loop().time())

    try:
        async with lease:
            connection.add_termination_listener(end)
            try:
                yield
            finally:
                connection.remove_termination_listener(end)
    except TimeoutError as error:
        if lease.expired():
            raise asyncpg.ConnectionDoesNotExistError("the leader's session has ended") from error
        raise
