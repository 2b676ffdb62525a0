-- Events that a projection cannot apply, and what is to become of them
-- depends: 0001-projections
-- migrate: apply

-- A room stands still in a projection before its parked event; the events behind it stay in the event store.
-- wanted is what an operator asked for and the owner of the partition has yet to do. A row with skipped_at stays for
-- good: it says that the projection is complete without that event.
create table projector_parked (
    projection text collate "C" not null,
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    stream_seq bigint not null,
    partition smallint not null,
    error text not null,
    attempts integer not null default 1,
    parked_at timestamptz not null default now(),
    tried_at timestamptz not null default now(),
    wanted text check (wanted in ('retry', 'skip')),
    skipped_at timestamptz,
    primary key (projection, workspace_id, room_id, stream_seq)
);

create index projector_parked_open on projector_parked (projection, partition) where skipped_at is null;

-- migrate: rollback

drop table projector_parked;
