"""The command service's metrics: every name is here, and nowhere else."""

from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter(
    "runroom_command_commands_total",
    "Commands answered, by outcome: accepted, replayed or an error code. What is malformed (400) never becomes one.",
    ["outcome"],
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
RELAY_BATCH_SIZE = Histogram(
    "runroom_relay_batch_events", "Events per publish.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
RELAY_PUBLISH_SECONDS = Histogram(
    "runroom_relay_publish_seconds",
    "Seconds from the first byte of a publish to the stream's acknowledgement.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
RELAY_FENCED = Counter(
    "runroom_relay_fenced_total", "Publishes that the stream refused, as it was not where the relay thought."
)
RELAY_RECONCILIATIONS = Counter(
    "runroom_relay_reconciliations_total",
    "Times the relay compared itself with the stream, by cause: start, reconnect, error, fenced, moved.",
    ["cause"],
)
RELAY_OVERSIZE = Gauge(
    "runroom_relay_oversize_rooms",
    "Rooms whose next event cannot be published: it is larger than the broker takes, or makes no message, or is not"
    " there. Up to 10,000.",
)
RELAY_STRANGERS = Gauge(
    "runroom_relay_stranger_rooms",
    "Rooms of which the stream holds events that the event store does not: nothing of them is published.",
)
RELAY_CONSUMERS_REMOVED = Counter(
    "runroom_relay_consumers_removed_total",
    "Consumers of the stream that the relay has removed, as no projector makes such: they deliver unasked, or again"
    " until somebody acknowledges.",
)
RELAY_UNPUBLISHED_ROOMS = Gauge(
    "runroom_relay_unpublished_rooms",
    "Rooms with committed events not yet on the stream. The same number in every process, looked at every 5 s.",
)
RELAY_UNPUBLISHED_EVENTS = Gauge(
    "runroom_relay_unpublished_events",
    "Committed events not yet on the stream, as far as that is recorded, twice a second. The same in every process.",
)
RELAY_UNPUBLISHED_SECONDS = Gauge(
    "runroom_relay_unpublished_seconds",
    "Age of the oldest of them, among the first 1000 rooms; 0 when there is none. Rooms whose next event cannot be"
    " published are left out.",
)

for _outcome in ("accepted", "replayed", "overloaded", "store_unavailable"):
    COMMANDS.labels(_outcome)
for _cause in ("start", "reconnect", "error", "fenced", "moved"):
    RELAY_RECONCILIATIONS.labels(_cause)
