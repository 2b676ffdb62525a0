"""Tokens last until the wall clock says so, also when it is put right meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.contract.sse import DEADLINE, StreamEndedError
from tests.fault.clock import step_clock, stepping_clock
from tests.support.tokens import claims, hs256

from .service import running
from .world import Stream

SECRET = "s" * 32


async def test_a_stream_ends_with_its_token_by_a_clock_that_was_put_right(
    variables: dict[str, str], stream: Stream, room: str, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    stepped = stepping_clock(clock, variables | {"AUTH_JWT_SECRET": SECRET, "HEARTBEAT_SECONDS": "0.3"})
    authorization = f"Bearer {hs256(SECRET.encode(), claims())}"
    async with running(stepped) as query, query.stream(room, authorization=authorization) as viewer:
        await viewer.caught_up()
        step_clock(clock, 3500.0)
        await viewer.item()
        await viewer.item()
        assert await query.metric("runroom_query_streams_expired_total") == 0
        step_clock(clock, 3700.0)
        async with asyncio.timeout(DEADLINE):
            with suppress(StreamEndedError):
                while True:
                    await viewer.item()
        assert await query.metric("runroom_query_streams_expired_total") == 1
