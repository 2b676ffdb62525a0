"""The projector's commands, run as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.support.servers import REPOSITORY, as_role, as_service


def deployed(*, event_store: str, projections: str, nats: str = "") -> dict[str, str]:
    """The environment of a deployment's operator."""
    return {
        "PATH": os.environ["PATH"],
        **as_service("projector", nats=nats, EVENT_STORE_DSN=event_store, PROJECTION_DSN=projections),
        "PROJECTION_OWNER_DSN": as_role(projections, "runroom_migrate"),
    }


async def start(
    *arguments: str, event_store: str, projections: str, nats: str = "", release: Path = REPOSITORY
) -> asyncio.subprocess.Process:
    """A Python process with these arguments and the environment of a deployment; its output is piped."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=release,
        env=deployed(event_store=event_store, projections=projections, nats=nats),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def command(
    *arguments: str,
    event_store: str,
    projections: str,
    nats: str = "",
    seconds: float = 150,
    release: Path = REPOSITORY,
) -> tuple[int, str]:
    """The exit status of ``python -m services.projector …`` and what was printed."""
    process = await start(
        *("-m", "services.projector", *arguments),
        event_store=event_store,
        projections=projections,
        nats=nats,
        release=release,
    )
    output, _ = await asyncio.wait_for(process.communicate(), seconds)
    return process.returncode or 0, output.decode()
