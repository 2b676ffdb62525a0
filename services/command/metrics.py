"""The command service's metrics."""

from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter(
    "runroom_command_commands_total", "Commands answered, by outcome: accepted, replayed or an error code.", ["outcome"]
)
BATCH_SIZE = Histogram(
    "runroom_command_batch_commands", "Commands per transaction.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
COMMIT_SECONDS = Histogram(
    "runroom_command_commit_seconds",
    "Seconds from the begin to the commit of a batch.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
QUEUE = Gauge("runroom_command_queue_commands", "Commands waiting for a transaction.")
STORE_RETRIES = Counter("runroom_command_store_retries_total", "Batches tried again after the event store failed.")
RELAY_LEADER = Gauge("runroom_relay_leader", "1 while this process is the relay's leader.")
RELAY_PUBLISHED = Counter("runroom_relay_published_total", "Events acknowledged by the stream.")
RELAY_RECONCILIATIONS = Counter(
    "runroom_relay_reconciliations_total", "Times the relay compared itself with the stream, by cause.", ["cause"]
)
RELAY_OVERSIZE = Gauge("runroom_relay_oversize_rooms", "Rooms whose next event is larger than the broker takes.")
RELAY_STRANGERS = Gauge(
    "runroom_relay_stranger_rooms",
    "Rooms of which the stream holds events that the event store does not: nothing of them is published.",
)
RELAY_UNPUBLISHED_ROOMS = Gauge("runroom_relay_unpublished_rooms", "Rooms with committed events not yet on the stream.")
RELAY_UNPUBLISHED_EVENTS = Gauge("runroom_relay_unpublished_events", "Committed events not yet on the stream.")
