"""The projector's commands, run as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import sys

from tests.support.servers import REPOSITORY


async def command(*arguments: str, event_store: str, projections: str, nats: str = "") -> tuple[int, str]:
    """The exit status of ``python -m services.projector …`` and what was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.projector",
        *arguments,
        cwd=REPOSITORY,
        env={
            "PATH": os.environ["PATH"],
            "EVENT_STORE_DSN": event_store,
            "PROJECTION_DSN": projections,
            "NATS_URL": nats,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()
