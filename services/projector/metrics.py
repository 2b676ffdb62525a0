"""The projector's metrics: every name is here, and nowhere else."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("runroom_projector_events_total", "Events applied.", ["projection"])
REPEATED = Counter("runroom_projector_repeated_total", "Events that came again and were dropped.", ["projection"])
STRAYS = Counter(
    "runroom_projector_strays_total", "Messages of the stream that are no event of their room.", ["projection"]
)
FILLED = Counter("runroom_projector_filled_total", "Events read from the event store to fill a hole.", ["projection"])
BATCH_SIZE = Histogram(
    "runroom_projector_batch_events",
    "Events per transaction.",
    ["projection"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)
APPLY_SECONDS = Histogram(
    "runroom_projector_apply_seconds",
    "Seconds from the fold to the commit of a batch.",
    ["projection"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
LAG = Gauge(
    "runroom_projector_lag_events",
    "Events committed and yet to be applied, of the partitions this worker holds. Rooms that wait behind a parked"
    " event, or before one that cannot be published or is not there, are left out.",
    ["projection", "partition"],
)
LAG_SECONDS = Gauge(
    "runroom_projector_lag_seconds",
    "Age of the oldest of them; 0 when there is none.",
    ["projection", "partition"],
)
LEASES = Gauge("runroom_projector_leases", "Partitions held by this worker.", ["projection"])
UNHELD = Gauge(
    "runroom_projector_unheld_partitions",
    "Partitions that no living worker works on, of each version that is read. The same in every"
    " process, looked at every second; not there while the projection database cannot be asked.",
    ["projection"],
)
PARKED_EVENTS = Gauge(
    "runroom_projector_parked_events",
    "Events that cannot be applied, each with its room waiting behind it, of the partitions this worker holds.",
    ["projection"],
)
PARKED = Counter(
    "runroom_projector_parkings_total", "Times an event could not be applied, first tries and retries.", ["projection"]
)
HOLED_ROOMS = Gauge(
    "runroom_projector_holed_rooms",
    "Rooms that stand still before an event that the event store counts and does not have, of the partitions this"
    " worker holds.",
    ["projection"],
)
BEHIND_ROOMS = Gauge("runroom_projector_behind_rooms", "Rooms to be filled from the event store.", ["projection"])
LEASES_LOST = Counter(
    "runroom_projector_leases_lost_total", "Partitions that another worker had taken over.", ["projection"]
)
CONSUMERS = Counter("runroom_projector_consumers_total", "Stream consumers built, by cause.", ["projection", "cause"])
STORE_RETRIES = Counter(
    "runroom_projector_store_retries_total", "Batches tried again after a database failed.", ["projection"]
)
HEALED = Counter(
    "runroom_projector_healed_rooms_total", "Rooms the reconciler found to lag behind the event store.", ["projection"]
)


def begin(projection: str) -> None:
    """Has the projection's counters begin at 0: what an alert waits for may be the first."""
    for counter in (EVENTS, REPEATED, STRAYS, FILLED, PARKED, LEASES_LOST, STORE_RETRIES, HEALED):
        counter.labels(projection)
