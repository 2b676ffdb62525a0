"""Engines that never give up: every command has an idempotency key and is sent until it is acknowledged."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import httpx

PATIENCE_SECONDS = 90.0


class Acknowledged(NamedTuple):
    """What a service said it had committed."""

    room_id: str
    stream_seq: int
    event_id: str
    run_id: str


class Load:
    """Engines telling runs in rooms until told to stop. What they were promised is in ``acknowledged``."""

    def __init__(self, urls: Sequence[str], rooms: Sequence[str], workspace_id: str, seed: int) -> None:
        self.workspace_id = workspace_id
        self.acknowledged: list[Acknowledged] = []
        self.asked_again: Counter[str] = Counter()
        """Why commands had to be sent again: error codes of 503s, and kinds of broken connections."""
        self._urls = urls
        self._rooms = rooms
        self._random = random.Random(seed)
        self._turn = itertools.count()
        self._stopping = False
        self._http = httpx.AsyncClient(
            headers={"x-workspace-id": workspace_id, "x-actor-type": "agent"},
            timeout=httpx.Timeout(8.0, connect=2.0),
            limits=httpx.Limits(max_connections=100),
        )

    async def run(self, engines: int, pause_seconds: float = 0.0) -> None:
        """``pause_seconds`` is what each engine waits between two runs."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(engines):
                tasks.create_task(self._tell_runs(pause_seconds))

    def stop(self) -> None:
        """No more runs; those that are being told are told to their end."""
        self._stopping = True

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, path: str, body: dict[str, Any]) -> Acknowledged:
        """Sends one command until it is acknowledged. Raises for any answer that is neither that nor a 503."""
        key = str(UUID(int=self._random.getrandbits(128), version=4))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                url = self._urls[next(self._turn) % len(self._urls)]
                try:
                    response = await self._http.post(f"{url}{path}", json=body, headers={"idempotency-key": key})
                except httpx.TransportError as error:
                    self.asked_again[type(error).__name__] += 1
                else:
                    if response.status_code < 300:
                        break
                    if response.status_code != 503:
                        raise AssertionError(f"{path}: {response.status_code} {response.text}")
                    self.asked_again[response.json()["error"]] += 1
                await asyncio.sleep(0.1)
        answer = response.json()
        acknowledged = Acknowledged(answer["room_id"], answer["stream_seq"], answer["event_id"], answer["run_id"])
        self.acknowledged.append(acknowledged)
        return acknowledged

    async def read(self, query_urls: Sequence[str], acknowledged: Acknowledged) -> None:
        """Returns once a query service shows the run as of the command. Raises for what is neither that nor a 503."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in itertools.count():
                url = f"{query_urls[number % len(query_urls)]}/v1/runs/{acknowledged.run_id}"
                with contextlib.suppress(httpx.TransportError):
                    response = await self._http.get(url, params={"min_seq": acknowledged.stream_seq, "wait": 500})
                    if response.status_code == 200:
                        assert response.json()["run"]["last_event_id"] == acknowledged.event_id
                        return
                    assert response.status_code == 503, response.text
                await asyncio.sleep(0.02)

    async def _tell_runs(self, pause_seconds: float) -> None:
        while not self._stopping:
            await asyncio.sleep(pause_seconds)
            room_id = self._random.choice(self._rooms)
            run = await self.send("/v1/runs", {"room_id": room_id, "title": "t", "tags": ["fault"], "input": {"n": 1}})
            path = f"/v1/runs/{run.run_id}"
            await self.send(f"{path}/start", {})
            await asyncio.gather(*(self.send(f"{path}/steps", {"kind": "tool"}) for _ in range(3)))
            if self._random.random() < 0.8:
                await self.send(f"{path}/complete", {"summary": "s", "output": {"answer": 42}})
            else:
                await self.send(f"{path}/fail", {"message": "m"})
