"""The processes of a rebuild, all of which may fail at once."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from services.projector.rebuild import fill, jobs
from services.projector.rebuild.fill import Target
from services.projector.verify.rooms import Page
from shared.contracts.ids import RoomKey
from shared.postgres import STORE_ERRORS


async def test_errors_of_all_processes_are_heard(unheard: list[dict[str, Any]]) -> None:
    """A database that shuts everybody out, and a command that comes to see several of its processes fail together."""
    several = threading.Event()

    def shut_out(listener: socket.socket) -> None:
        for number in range(100):
            try:
                listener.accept()[0].close()
            except OSError:
                return
            if number == 10:
                several.set()

    def show(_: int) -> None:
        several.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=shut_out, args=(listener,), daemon=True).start()
        dsn = f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/none?sslmode=disable"
        pages = [Page(RoomKey("", ""), None)] * 40
        with pytest.raises(STORE_ERRORS) as raised:
            await jobs.fill(Target(dsn, dsn, "runs", 2, "runs@2"), 2, pages, show)
        listener.shutdown(socket.SHUT_RDWR)
    del raised
    # Errors come to their end with what holds them.
    await asyncio.sleep(0)
    gc.collect()
    assert unheard == []


async def test_postgres_asks_whether_a_process_is_still_there(
    projection_dsn: str, event_store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds rooms that the next command would wait for, were it gone with its machine."""
    found: list[str] = []

    async def look(self: Any, _: Page) -> None:
        found.append(await self._projections.fetchval("show tcp_keepalives_idle"))

    monkeypatch.setattr(fill._Fill, "run", look)  # pyright: ignore[reportPrivateUsage]
    target = Target(event_store_dsn, projection_dsn, "runs", 2, "runs@2")
    await fill.fill_pages(target, [Page(RoomKey("", ""), None)], lambda _: None)
    assert found == ["5"]
