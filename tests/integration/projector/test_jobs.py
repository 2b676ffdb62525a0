"""The processes of a rebuild, all of which may fail at once."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from services.projector.rebuild import jobs
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
