"""A command is carried out for a token that is good then, not only when its head came."""

from __future__ import annotations

import asyncio
import json
import time

from tests.contract.client import fresh

from .deployment import Guarded, bearer

BODY = b'{"room_id":"slow"}'


async def test_a_command_comes_too_late_when_its_token_expires_on_the_way(guarded: Guarded) -> None:
    workspace = fresh("ws")
    credentials = bearer(guarded.token(workspace=workspace, exp=int(time.time()) + 2))
    _, _, port = guarded.command_url.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    try:
        writer.write(
            f"POST /v1/runs HTTP/1.1\r\nHost: c\r\nAuthorization: {credentials['authorization']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
            + BODY[:4]
        )
        url = f"{guarded.command_url}/v1/runs/run_0/start"
        async with asyncio.timeout(20):
            while (await guarded.http.post(url, headers=credentials)).status_code != 401:
                await asyncio.sleep(0.1)
            writer.write(BODY[4:])
            head = await reader.readuntil(b"\r\n\r\n")
            _, _, length = head.lower().partition(b"content-length: ")
            problem = json.loads(await reader.readexactly(int(length.partition(b"\r\n")[0])))
    finally:
        writer.close()
    assert (problem["status"], problem["error"]) == (401, "invalid_token")
    assert b"www-authenticate: Bearer" in head
    assert "expired" in problem["detail"]
    assert (await guarded.workspace(workspace).create("slow"))["stream_seq"] == 1
