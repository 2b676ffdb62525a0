"""People watching rooms: readers that reconnect by the last id they saw, and keep the accounts of what came."""

import asyncio
import itertools
from collections.abc import Sequence

import httpx


class Reader:
    """One viewer of one room, for as long as it takes. ``seen`` is what it was shown, in the order it came."""

    def __init__(self, urls: Sequence[str], workspace_id: str, room_id: str, first: int) -> None:
        self.room_id = room_id
        self.seen: list[tuple[int, str]] = []
        self.connections = 0
        self.resets = 0
        self._urls = urls
        self._workspace_id = workspace_id
        self._turn = itertools.count(first)

    @property
    def last_seq(self) -> int:
        return self.seen[-1][0] if self.seen else 0

    async def run(self) -> None:
        """Reads until cancelled."""
        timeout = httpx.Timeout(20.0, connect=2.0)
        async with httpx.AsyncClient(headers={"x-workspace-id": self._workspace_id}, timeout=timeout) as http:
            while True:
                try:
                    await self._read(http)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)

    async def _read(self, http: httpx.AsyncClient) -> None:
        base = self._urls[next(self._turn) % len(self._urls)]
        headers = {"last-event-id": str(self.last_seq)} if self.seen else {}
        url = f"{base}/v1/streams/rooms/{self.room_id}"
        async with http.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                await asyncio.sleep(0.1)
                return
            self.connections += 1
            event_id, name = 0, ""
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    event_id = int(line[4:])
                elif line.startswith("event: "):
                    name = line[7:]
                    self.resets += name == "reset"
                elif line.startswith("data: ") and not name:
                    self.seen.append((event_id, line[6:]))
                elif not line:
                    name = ""
