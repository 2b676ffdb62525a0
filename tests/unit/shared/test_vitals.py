"""The process notices when it was stopped."""

import asyncio
import gc
import time

from prometheus_client import REGISTRY

from shared.vitals import watched_process


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_a_blocked_loop_and_a_collection_are_seen() -> None:
    lag, full = value("runroom_event_loop_lag_seconds_sum"), value("runroom_gc_pause_seconds_count", generation="2")
    callbacks = list(gc.callbacks)
    with watched_process():
        time.sleep(0.3)  # noqa: ASYNC251  # blocks the loop, which is the point
        gc.collect()
        await asyncio.sleep(0.15)
    assert value("runroom_event_loop_lag_seconds_sum") >= lag + 0.1
    assert value("runroom_gc_pause_seconds_count", generation="2") == full + 1
    assert gc.callbacks == callbacks
