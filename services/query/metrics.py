"""The query service's metrics: every name is here, and nowhere else."""

from prometheus_client import Counter, Gauge, Histogram

STREAMS_OPEN = Gauge("runroom_query_streams_open", "Room streams open now.")
STREAMS_LIMIT = Gauge("runroom_query_streams_limit", "Room streams this process takes; more are told to come back.")
ROOMS_WATCHED = Gauge("runroom_query_rooms_watched", "Rooms with at least one open stream.")
FRAMES_SENT = Counter("runroom_query_frames_sent_total", "Event frames sent to clients.")
DELIVERY_SECONDS = Histogram(
    "runroom_query_delivery_seconds",
    "Seconds from an event's commit until it was written to the streams that follow its room live: of the first event"
    " in each hundredth of a second, by the clocks of two machines.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CATCH_UPS = Counter(
    "runroom_query_catch_ups_total", "Times a live client fell behind its room's ring and went to history."
)
RESETS = Counter(
    "runroom_query_resets_total", "Reset frames sent, by reason: cursor_ahead, history_trimmed.", ["reason"]
)
STREAMS_BUSY = Counter(
    "runroom_query_streams_busy_total",
    "Streams refused with a busy frame, by limit: process, room, principal, shutdown.",
    ["limit"],
)
EXPIRED = Counter("runroom_query_streams_expired_total", "Streams ended because their token expired.")
STALLED = Counter("runroom_query_streams_stalled_total", "Streams dropped because their client read nothing.")
MISPLACED = Counter(
    "runroom_query_misplaced_total",
    "Messages, live or stored, dropped because their event is another room's, more than a line, or another than the one"
    " that came with its number before, and answers of the stream with something else in them than was asked for, or"
    " sent in the relay's place: nobody should send such.",
)
HISTORY_READS = Counter(
    "runroom_query_history_reads_total", "Reads of a room's history, by source: projection, stream.", ["source"]
)
HOLES_FILLED = Counter("runroom_query_holes_filled_total", "Events that came to the live tail from history, not live.")
MIN_SEQ_WAITS = Counter("runroom_query_min_seq_waits_total", "Requests that had to wait for their min_seq.")
MIN_SEQ_TIMEOUTS = Counter(
    "runroom_query_min_seq_timeouts_total", "Requests whose min_seq was not reached in time (503 projection_behind)."
)

for _reason in ("cursor_ahead", "history_trimmed"):
    RESETS.labels(_reason)
for _limit in ("process", "room", "principal", "shutdown"):
    STREAMS_BUSY.labels(_limit)
for _source in ("projection", "stream"):
    HISTORY_READS.labels(_source)
