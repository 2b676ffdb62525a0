"""A real query process on a free port, and a client for it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from deploy.local.ports import free_port
from tests.contract.sse import RoomStream, open_stream
from tests.support.servers import REPOSITORY

WORKSPACE = "ws_dev"


class QueryService:
    """The process under test. Every setting is in ``variables``."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.AsyncClient(
            base_url=self.url, timeout=40, trust_env=False, limits=httpx.Limits(max_connections=2000)
        )
        self._variables = {
            "PATH": os.environ["PATH"],
            "QUERY_PORT": str(self.port),
            "LOG_LEVEL": "info",
            "TAIL_CHECK_SECONDS": "0.5",
            **variables,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.query", cwd=REPOSITORY, env=self._variables
        )
        async with asyncio.timeout(20):
            while True:
                try:
                    if (await self.http.get("/healthz")).status_code == 200:
                        return
                except httpx.TransportError:
                    assert self._process.returncode is None, "the service did not start"
                    await asyncio.sleep(0.05)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Tells the process to end; its exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def close(self) -> None:
        try:
            if self._process is not None:
                await self.stop()
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self.http.aclose()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def get(self, path: str, params: Any = None, **headers: str) -> httpx.Response:
        return await self.http.get(path, params=params, headers=_names(headers))

    @asynccontextmanager
    async def stream(
        self, room_id: str, from_seq: int | str | None = None, **headers: str
    ) -> AsyncGenerator[RoomStream, None]:
        """An open room stream."""
        params = {} if from_seq is None else {"from_seq": str(from_seq)}
        url = f"{self.url}/v1/streams/rooms/{room_id}"
        async with open_stream(self.http, url, params, _names(headers)) as stream:
            yield stream

    async def metric(self, sample: str) -> float:
        """The value of one sample of ``/metrics``, labels included in the name."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", (await self.http.get("/metrics")).text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def until(self, sample: str, value: float) -> None:
        """Waits for a sample of ``/metrics`` to have a value."""
        async with asyncio.timeout(20):
            while await self.metric(sample) != value:
                await asyncio.sleep(0.05)

    async def until_ready(self, dependency: str, status: str) -> None:
        """Waits for ``/readyz`` to say this of the dependency."""
        async with asyncio.timeout(20):
            while (await self.get("/readyz")).json()["dependencies"][dependency]["status"] != status:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(variables: Mapping[str, str]) -> AsyncGenerator[QueryService, None]:
    service = QueryService(variables)
    try:
        await service.start()
        yield service
    finally:
        await service.close()


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
