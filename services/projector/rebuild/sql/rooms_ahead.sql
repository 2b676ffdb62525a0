-- For the session: rooms of a version that say they have been brought further (applied_seq) than the event store's last
-- event (last_seq), which no worker does.
create temporary table rooms_ahead (
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    applied_seq bigint not null,
    last_seq bigint not null
)
