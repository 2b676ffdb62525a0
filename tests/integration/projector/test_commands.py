"""Commands whose PostgreSQL says nothing more."""

from __future__ import annotations

import asyncio
import signal
from urllib.parse import urlsplit

import pytest

from tests.integration.privileges import connected
from tests.integration.projector.commands import start
from tests.integration.projector.workers import until_waiting
from tests.support.proxy import running_proxy, through
from tests.support.servers import MigratedDatabases

_PARKED = """
import sys
from services.projector import parked_command
from services.projector.__main__ import main
parked_command.ANSWER_SECONDS = {seconds}
sys.exit(main(["parked", "list"]))
"""


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["by itself", "by Ctrl-C"])
async def test_a_command_does_not_wait_for_ever(migrated_databases: MigratedDatabases, *, ctrl_c: bool) -> None:
    dsn = migrated_databases.copy("projections")
    async with running_proxy(urlsplit(dsn).port or 0) as proxy, connected(dsn) as owner, owner.transaction():
        await owner.execute("lock table projector_parked in access exclusive mode")
        script = _PARKED.format(seconds=60 if ctrl_c else 3)
        process = await start("-c", script, event_store=dsn, projections=through(proxy, dsn))
        try:
            await until_waiting(owner, "runroom-projector")
            proxy.hold()
            if ctrl_c:
                process.send_signal(signal.SIGINT)
            output, _ = await asyncio.wait_for(process.communicate(), 15)
            assert process.returncode == (-signal.SIGINT if ctrl_c else 2)
            assert output.decode() == ("" if ctrl_c else "the database does not answer: TimeoutError: \n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["by itself", "by Ctrl-C"])
async def test_a_command_that_gave_up_leaves_no_statement_behind(
    migrated_databases: MigratedDatabases, *, ctrl_c: bool
) -> None:
    """It would go on, and keep locked what workers change."""
    dsn = migrated_databases.copy("projections")
    async with connected(dsn) as owner, owner.transaction():
        await owner.execute("lock table projector_parked in access exclusive mode")
        script = _PARKED.format(seconds=60 if ctrl_c else 3)
        process = await start("-c", script, event_store=dsn, projections=dsn)
        try:
            await until_waiting(owner, "runroom-projector")
            if ctrl_c:
                process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 15)
            await until_waiting(owner, "runroom-projector", waiting=False)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
