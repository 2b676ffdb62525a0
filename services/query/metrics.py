"""The query service's metrics: every name is here, and nowhere else."""

from prometheus_client import Counter, Gauge

STREAMS_OPEN = Gauge("runroom_query_streams_open", "Room streams open now")
ROOMS_WATCHED = Gauge("runroom_query_rooms_watched", "Rooms with at least one open stream")
FRAMES_SENT = Counter("runroom_query_frames_sent", "Event frames sent to clients")
CATCH_UPS = Counter("runroom_query_catch_ups", "Times a live client fell behind its room's ring and went to history")
RESETS = Counter("runroom_query_resets", "Reset frames sent", ["reason"])
STREAMS_BUSY = Counter("runroom_query_streams_busy", "Streams refused with a busy frame", ["limit"])
EXPIRED = Counter("runroom_query_streams_expired", "Streams ended because their token expired")
STALLED = Counter("runroom_query_streams_stalled", "Streams dropped because their client read nothing")
HISTORY_READS = Counter("runroom_query_history_reads", "Reads of a room's history", ["source"])
HOLES_FILLED = Counter("runroom_query_holes_filled", "Events that came to the live tail from history, not live")
MIN_SEQ_WAITS = Counter("runroom_query_min_seq_waits", "Requests that had to wait for their min_seq")
MIN_SEQ_TIMEOUTS = Counter("runroom_query_min_seq_timeouts", "Requests whose min_seq was not reached in time")
