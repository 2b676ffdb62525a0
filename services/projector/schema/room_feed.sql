-- The table of one version of the projection room_feed; vN stands for the version. A change goes here, and by a rebuild.
create table proj_room_events_vN (
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    stream_seq bigint not null,
    stream_position bigint not null,
    envelope bytea not null,
    primary key (workspace_id, room_id, stream_seq),
    constraint proj_room_events_vN_forms check (octet_length(envelope) between 1 and 16777216)
);
