"""One PostgreSQL connection of one task's own.

Invariant: after trouble the next use gets a new connection, never one in an unknown state. A worker that stands still
in the middle of a transaction is cut off, so that its locks never outlive its leases by much: between two statements by
PostgreSQL, and in the middle of one by whoever takes its leases over, who knows its sessions by their name.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from shared.postgres import FIND_THE_GONE, STORE_ERRORS, Connection, connect


class Session:
    """``idle_seconds`` is how long PostgreSQL lets a transaction stand still before it ends the connection."""

    def __init__(self, dsn: str, name: str, *, idle_seconds: float, command_timeout: float = 30.0) -> None:
        self._dsn = dsn
        self._name = name
        self._idle_milliseconds = int(idle_seconds * 1000)
        self._command_timeout = command_timeout
        self._connection: Connection | None = None

    async def get(self) -> Connection:
        """The connection, opened if need be. Raises one of ``STORE_ERRORS``."""
        if self._connection is None or self._connection.is_closed():
            connection = await connect(self._dsn, self._name, command_timeout=self._command_timeout)
            try:
                await connection.execute(
                    f"set idle_in_transaction_session_timeout = {self._idle_milliseconds}; {FIND_THE_GONE};"
                    # One that was thrown away as it waited for a lock would wait on, beside its successors.
                    " set client_connection_check_interval = '1s'"
                )
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection, None]:
        """A transaction, rolled back where the block fails. Raises one of ``STORE_ERRORS``.

        Where the connection does not answer in time it is thrown away instead: the driver would wait for as long again
        until the statement is cancelled, before it asked for anything else.
        """
        connection = await self.get()
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        except (TimeoutError, OSError, asyncio.CancelledError):
            self.discard()
            raise
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()

    def discard(self) -> None:
        """Throws the connection away, whatever it is doing."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*STORE_ERRORS):
                await connection.close(timeout=1.0)
