"""Answers that their clients do not take: bounded, and nobody is kept out by them for long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import httpx

from deploy.local import EmbeddedNats
from tests.integration.command.deployment import command_service, running

PATIENCE = 20.0
MIB = 1024 * 1024
AHEAD = b"GET /nothing HTTP/1.1\r\nHost: c\r\n\r\n" * 10_000
ASKED = b"GET /schema/openapi.json HTTP/1.1\r\nHost: c\r\n\r\n" * 200


async def test_who_takes_nothing_keeps_commands_out_for_a_moment_only(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    service = command_service(tmp_path, event_store_dsn, fresh_nats.url, BACKLOG_MEGABYTES="1")
    async with running(service), httpx.AsyncClient(base_url=service.url, trust_env=False) as http:

        async def metric(name: str) -> float:
            page = (await http.get("/metrics")).text
            return next(float(line.split(" ")[1]) for line in page.splitlines() if line.startswith(f"{name} "))

        with contextlib.ExitStack() as opened:

            def ask() -> None:
                client = opened.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", service.port))
                client.sendall(ASKED)

            async with asyncio.timeout(PATIENCE):
                while not await metric("runroom_http_backlog_drops_total"):
                    ask()
                    await asyncio.sleep(0.02)
                while True:
                    answer = await http.post("/v1/runs", json={"room_id": "r"})
                    if answer.status_code == 201 and await metric("runroom_http_backlog_bytes") < MIB:
                        break
                    if answer.status_code != 201:
                        assert (answer.status_code, answer.json()["error"]) == (503, "overloaded")
                        assert answer.headers["retry-after"] == "1"
                    await asyncio.sleep(0.05)


async def test_who_sends_ahead_and_takes_all_answers_keeps_commands_out_for_a_moment_only(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    """Of each some requests are answered all the while, and more are left."""
    service = command_service(tmp_path, event_store_dsn, fresh_nats.url, BACKLOG_MEGABYTES="1")

    async def send_ahead() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

        async def send() -> None:
            while True:
                writer.write(AHEAD)
                await writer.drain()

        sending = asyncio.create_task(send())
        try:
            while await reader.read(65536):
                pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()

    async with running(service), httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
        clients = [asyncio.create_task(send_ahead()) for _ in range(40)]
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
                while (answer := await http.post("/v1/runs", json={"room_id": "r"})).status_code != 201:
                    assert (answer.status_code, answer.json()["error"]) == (503, "overloaded")
                    await asyncio.sleep(0.05)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
