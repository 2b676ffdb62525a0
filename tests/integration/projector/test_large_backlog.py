"""A worker that is alone reads all partitions at once, and NATS does not keep more for it than it keeps for anybody."""

from __future__ import annotations

from pathlib import Path

from deploy.local import EmbeddedNats
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import applied, running
from tests.support.servers import reload


async def test_a_backlog_of_large_events_is_applied_without_being_cut_off(
    event_store_dsn: str, projection_dsn: str, stream_url: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    histories = [RoomHistory(f"large-{number}") for number in range(32)]
    for turn in range(2):
        for number, history in enumerate(histories):
            history.created(f"run_{turn:013d}{number:013d}", input={"much": "x" * 900_000})
    events = sorted((event for history in histories for event in history.events), key=lambda event: event.seq)
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path):
        await applied(projection_dsn, histories, seconds=120)
    assert "Slow Consumer" not in fresh_nats.log_file.read_text()


async def test_a_backlog_of_numbers_that_take_long_to_read_costs_no_leases(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    """As large as a batch may be: what anybody may send whose runs these are, while projectors are restarted."""
    slow, quick = RoomHistory("slow"), RoomHistory("quick")
    for number in range(300):
        slow.created(f"run_n{number:025d}", input={"much": [1e300] * 4900})
    quick.created("run_" + "q" * 26)
    await store(event_store_dsn, slow.events + quick.events)
    await publish(stream_url, slow.events + quick.events)
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path) as workers:
        await applied(projection_dsn, [slow, quick], seconds=120)
        log = workers.log()
    assert "leases_taken" in log
    assert "leases_expired" not in log
    assert "leases_lost" not in log


async def test_what_the_broker_would_not_take_any_more_is_read_all_the_same(
    event_store_dsn: str, projection_dsn: str, stream_url: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    history = RoomHistory("of-before")
    for number in range(2):
        history.created(f"run_b{number:025d}", input={"much": "x" * 900_000})
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)
    before = (fresh_nats.data_dir / "nats.conf").read_text()
    reload(fresh_nats, before.replace("max_payload: 8MB", "max_payload: 300KB"))
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path):
        await applied(projection_dsn, [history])
