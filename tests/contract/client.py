"""A client of Runroom written from the contract alone: commands, reads and streams of one workspace.

Each test has a workspace of its own with a random name, so tests are independent of one another, of their order and of
what a long-lived deployment already holds.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx

from . import expect, tokens
from .sse import Event, RoomStream, encoded, open_stream


def fresh(prefix: str) -> str:
    """Return a name nobody has used: a room, a workspace, a key."""
    return f"{prefix}_{secrets.token_hex(8)}"


class Workspace:
    """One workspace of a deployment. Methods named for a command answer its success body, or fail the test."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        command_url: str,
        query_url: str,
        workspace_id: str | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.http = http
        self.command_url = command_url.rstrip("/")
        self.query_url = query_url.rstrip("/")
        self.id = workspace_id or fresh("ws")
        self._credentials = credentials

    def other(self) -> Workspace:
        """Return another, equally new workspace of the same deployment."""
        return Workspace(self.http, self.command_url, self.query_url)

    @property
    def credentials(self) -> dict[str, str]:
        """The headers that say who is calling, and in which workspace."""
        return dict(self._credentials) if self._credentials is not None else tokens.credentials(self.id)

    # Commands

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        content: bytes | AsyncIterator[bytes] | None = None,
        key: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> httpx.Response:
        """POST `body` as JSON, or `content` as it is (as JSON too, unless `headers` say otherwise), or nothing."""
        sent: dict[str, str | bytes] = {**self.credentials}
        if key is not None:
            sent["idempotency-key"] = key
        if content is not None:
            sent["content-type"] = "application/json"
        sent |= headers or {}
        payload = {"json": body} if body is not None else {}
        return await self.http.post(f"{self.command_url}{path}", content=content, headers=encoded(sent), **payload)

    async def create(self, room_id: str, **members: Any) -> dict[str, Any]:
        return expect.accepted(await self.post("/v1/runs", {"room_id": room_id, **members}), 201)

    async def start(self, run_id: str) -> dict[str, Any]:
        return expect.accepted(await self.post(f"/v1/runs/{run_id}/start"), 200)

    async def complete(self, run_id: str, **members: Any) -> dict[str, Any]:
        return expect.accepted(await self.post(f"/v1/runs/{run_id}/complete", members), 200)

    async def fail(self, run_id: str, **members: Any) -> dict[str, Any]:
        return expect.accepted(await self.post(f"/v1/runs/{run_id}/fail", members), 200)

    async def step(self, run_id: str, kind: str = "tool", **members: Any) -> dict[str, Any]:
        return expect.accepted(await self.post(f"/v1/runs/{run_id}/steps", {"kind": kind, **members}), 201, step=True)

    async def running(self, room_id: str, **members: Any) -> dict[str, Any]:
        """Create and start a run; return the answer to the start."""
        run = await self.create(room_id, **members)
        return await self.start(run["run_id"])

    # Reads

    async def get(
        self, path: str, params: Any = None, headers: Mapping[str, str | bytes] | None = None
    ) -> httpx.Response:
        sent: dict[str, str | bytes] = {**self.credentials, **(headers or {})}
        return await self.http.get(f"{self.query_url}{path}", params=params, headers=encoded(sent))

    async def run(self, run_id: str, min_seq: int) -> dict[str, Any]:
        """Read a run once position `min_seq` of its room is reflected."""
        response = await self.get(f"/v1/runs/{run_id}", {"min_seq": min_seq, "wait": 30_000})
        assert response.status_code == 200, response.text
        assert response.json().keys() == {"run"}
        return response.json()["run"]

    async def runs(self, **params: Any) -> dict[str, Any]:
        """Read one page of runs."""
        return expect.page(await self.get("/v1/runs", params), "runs")

    async def steps(self, run_id: str, **params: Any) -> dict[str, Any]:
        """Read one page of a run's steps."""
        return expect.page(await self.get(f"/v1/runs/{run_id}/steps", params), "steps")

    async def settle(self, room_id: str, seq: int) -> None:
        """Wait until reads reflect position `seq` of the room."""
        await self.runs(room_id=room_id, min_seq=seq, wait=30_000, limit=1)

    # Streams

    def stream(
        self,
        room_id: str,
        *,
        from_seq: int | str | None = None,
        last_event_id: int | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[RoomStream]:
        """Open the room's stream; the answer must be 200."""
        return self._stream(room_id, from_seq, last_event_id, headers or {})

    @asynccontextmanager
    async def _stream(
        self, room_id: str, from_seq: int | str | None, last_event_id: int | str | None, headers: Mapping[str, str]
    ) -> AsyncIterator[RoomStream]:
        params = {} if from_seq is None else {"from_seq": str(from_seq)}
        sent = {"accept": "text/event-stream", **headers}
        if last_event_id is not None:
            sent["last-event-id"] = str(last_event_id)
        async with self.asked_stream(room_id, params, sent) as stream:
            assert stream.response.status_code == 200, await stream.response.aread()
            yield stream

    def asked_stream(
        self, room_id: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str | bytes] | None = None
    ) -> AbstractAsyncContextManager[RoomStream]:
        """Ask for the room's stream with just these parameters and headers, whatever the answer."""
        sent: dict[str, str | bytes] = {**self.credentials, **(headers or {})}
        return open_stream(self.http, f"{self.query_url}/v1/streams/rooms/{room_id}", params or {}, sent)

    async def no_stream(
        self, room_id: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str | bytes] | None = None
    ) -> httpx.Response:
        """Ask for a stream that is to be refused; return the refusal. One that opens all the same fails the test."""
        async with self.asked_stream(room_id, params, headers) as stream:
            assert stream.response.status_code != 200, "the stream opened"
            await stream.response.aread()
            return stream.response

    async def feed(self, room_id: str, seq: int, from_seq: int = 0) -> list[Event]:
        """Return the room's events after `from_seq` up to position `seq`, whether they come as history or live."""
        async with self.stream(room_id, from_seq=from_seq) as stream:
            return await stream.until(seq)

    async def alive(self, room_id: str, run: dict[str, Any] | None = None) -> None:
        """The room still takes an event, streams all it has, and is read at its head."""
        last = await self.create(room_id)
        events = await self.feed(room_id, last["stream_seq"])
        expect.gapless(events)
        for event in events:
            expect.envelope(event, self.id, room_id)
        await self.run((run or last)["run_id"], last["stream_seq"])
