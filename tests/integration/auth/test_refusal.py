"""A service that would be open to others does not start, and says why."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from deploy.local.ports import free_port
from tests.support.servers import REPOSITORY

DSN = "postgresql://127.0.0.1:1/x"
NOWHERE = {"EVENT_STORE_DSN": DSN, "PROJECTION_DSN": DSN, "NATS_URL": "nats://127.0.0.1:1"}


async def started(service: str, **variables: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], **NOWHERE, "COMMAND_PORT": "0", "QUERY_PORT": "0", **variables}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{service}", cwd=REPOSITORY, env=environment, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("service", ["command", "query"])
@pytest.mark.parametrize("variables", [{"HOST": "0.0.0.0"}, {"HOST": "0.0.0.0", "PUBLISHED_ON": "0.0.0.0"}])
async def test_it_refuses_in_one_sentence(service: str, variables: dict[str, str]) -> None:
    process = await started(service, **variables)
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 1
    (sentence,) = said.decode().splitlines()
    assert sentence.startswith(
        "authentication is off, and others can reach the service at 0.0.0.0: set AUTH_JWT_SECRET"
    )


@pytest.mark.parametrize("service", ["command", "query"])
@pytest.mark.parametrize("variables", [{"AUTH_JWT_SECRET": "s" * 32}, {"PUBLISHED_ON": "127.0.0.1"}])
async def test_with_tokens_or_published_on_loopback_it_starts(service: str, variables: dict[str, str]) -> None:
    port = free_port()
    names = {"COMMAND_PORT": str(port), "QUERY_PORT": str(port)}
    process = await started(service, HOST="0.0.0.0", **names, **variables)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
    finally:
        process.terminate()
        await process.communicate()
