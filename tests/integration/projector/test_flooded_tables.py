"""What whoever has a projector's password can add by the million costs the workers nothing: their statements read what
they need, whatever else is in the tables, and whether PostgreSQL knows of it yet or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.projector.parked_command import BY_KEY
from shared.postgres import load_queries
from tests.integration.privileges import connected
from tests.support.servers import PROJECTION_MIGRATIONS, MigratedDatabases, as_role

SQL = load_queries(PROJECTION_MIGRATIONS.parent / "sql")
ROWS = 100_000
MOST_BLOCKS = 300
"""What they may read, of the 1000 and more that the tables have then."""
PARKED = """
insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error)
select $1, 'ws', 'room-' || i % 7, i, i % 32, 'x' from generate_series(1, $2::integer) as i
"""


@pytest.fixture(params=["unknown", "outdated", "known"])
async def flooded(
    request: pytest.FixtureRequest, migrated_databases: MigratedDatabases
) -> AsyncIterator[asyncpg.Connection]:
    """As a projector, with many rows that no projector wrote. ``outdated``: PostgreSQL knows the tables of before."""
    dsn = migrated_databases.copy("projections")
    async with connected(dsn) as owner, connected(as_role(dsn, "runroom_projector")) as projector:
        await projector.execute(SQL["lease_rows"], "runs", 32)
        await projector.execute(SQL["heartbeat"], "worker", ["runs"], 60.0)
        await projector.execute(PARKED, "room_feed", 10)
        if request.param == "outdated":
            await owner.execute("analyze")
        await projector.execute(PARKED, "runs", ROWS)
        await projector.execute(
            "insert into projector_workers"
            " select i || repeat('w', 60), '{runs, room_feed}', 'infinity' from generate_series(1, $1::integer) as i",
            ROWS,
        )
        await projector.execute(
            "insert into projector_leases (projection, partition, owner)"
            " select i || repeat('p', 60), i % 32, 'worker' from generate_series(1, $1::integer) as i",
            ROWS,
        )
        if request.param == "known":
            await owner.execute("analyze")
        yield projector


async def blocks_of(connection: asyncpg.Connection, query: str, *arguments: object) -> int:
    """How many the statement reads. What it does is taken back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        plan = json.loads(await connection.fetchval(f"explain (analyze, buffers, format json) {query}", *arguments))
    finally:
        await transaction.rollback()
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


async def test_who_is_alive_and_holds_what(flooded: asyncpg.Connection) -> None:
    claimed = await flooded.fetch(SQL["claim"], "runs", "worker", 20)
    assert len(claimed) == 20
    assert [row["worker_id"] for row in await flooded.fetch(SQL["living_workers"], "worker")] == ["worker"]
    assert len(await flooded.fetch(SQL["leases_of"], "worker", 32)) == 20
    for name, arguments in (
        ("heartbeat", ("worker", ["runs"], 60.0)),
        ("living_workers", ("worker",)),
        ("leases_of", ("worker", 32)),
        ("claim", ("runs", "worker", 12)),
        ("release", ("runs", [1, 2], "worker")),
        ("retire", ("worker", 32)),
        ("forget_workers", (10,)),
    ):
        assert await blocks_of(flooded, SQL[name], *arguments) < MOST_BLOCKS, name
    await flooded.execute(
        "insert into projector_workers"
        " select i::text, '{}', now() + i * interval '10 ms' from generate_series(1, 2000) as i"
    )
    living = {row["worker_id"] for row in await flooded.fetch(SQL["living_workers"], "worker")}
    assert "worker" in living, "whoever asks counts itself, however many others there are"
    assert len(living) <= 1001


async def test_what_is_parked_and_can_never_be_applied(flooded: asyncpg.Connection) -> None:
    await flooded.fetch(SQL["claim"], "runs", "worker", 32)
    await flooded.execute("update projector_parked set wanted = 'retry' where stream_seq <= 10")
    seqs = list(range(1, 13))
    events = ("runs", ["ws"] * 12, [f"room-{seq % 7}" for seq in seqs], seqs)
    looked_at = await flooded.fetch(SQL["parked_open"], "runs", list(range(16)), 12)
    assert sorted(row["stream_seq"] for row in looked_at[:10] if row["wanted"]) == seqs[:10]
    assert len(looked_at) == 12
    for name, arguments in (
        ("parked_open", ("runs", list(range(16)), 12)),
        ("parked_settled", (*events, "worker")),
        ("parked_state", events),
        ("park", (*events, [seq % 32 for seq in seqs], ["y"] * 12)),
    ):
        assert await blocks_of(flooded, SQL[name], *arguments) < MOST_BLOCKS, name
    await flooded.execute(SQL["parked_settled"], *events, "another")
    left = (
        "select array_agg(stream_seq order by stream_seq) from projector_parked"
        " where projection = 'runs' and stream_seq < 13"
    )
    assert await flooded.fetchval(left) == seqs
    await flooded.execute(SQL["parked_settled"], *events, "worker")
    assert await flooded.fetchval(left) == [11, 12], "of which nothing is wanted"


async def test_a_portion_of_what_an_operator_lists_or_wants(flooded: asyncpg.Connection) -> None:
    await flooded.execute(BY_KEY)
    middle = ("ws", "room-3", ROWS // 2)
    for bounds in (("runs", None, None), ("runs", "ws", "room-3"), (None, None, None)):
        assert await blocks_of(flooded, SQL["parked_events"], "runs", *middle, *bounds, 12) < MOST_BLOCKS, bounds
    end = ("ws", "room-3", ROWS // 2 + 70)
    assert len(await flooded.fetch(SQL["parked_wish"], "runs", "retry", *middle, *end)) in (10, 11)
    assert await blocks_of(flooded, SQL["parked_wish"], "runs", "retry", *middle, *end) < MOST_BLOCKS
