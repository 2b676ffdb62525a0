-- Versions of projections: new tables beside the old ones, and the views that say which of them are read
-- depends: 0002-parked
-- migrate: apply

-- One row a version that has tables. Workers run it from "ready" on, as the projection called name in leases, rooms and
-- parked events; readers see the active one.
create table projector_versions (
    projection text collate "C" not null,
    version integer not null check (version > 0),
    name text collate "C" not null unique,
    state text not null check (state in ('building', 'ready', 'active', 'retired')),
    -- What the fill was made from: a position of the stream taken before the event store was first read.
    stream_identity text not null default '',
    stream_position bigint not null default 0,
    -- How far the fill has come: the last room that is done.
    workspace_id text collate "C" not null default '',
    room_id text collate "C" not null default '',
    events bigint not null default 0,
    created_at timestamptz not null default now(),
    primary key (projection, version)
);

create unique index projector_versions_active on projector_versions (projection) where state = 'active';

insert into projector_versions (projection, version, name, state)
values ('runs', 1, 'runs', 'active'), ('room_feed', 1, 'room_feed', 'active');

-- How far each room has come in what is read. The names stand in the view, so that a look-up (as a
-- scalar subquery, not as a join) is one index scan.
create view proj_applied as
select 'runs'::text as projection, workspace_id, room_id, applied_seq from proj_rooms where projection = 'runs'
union all
select 'room_feed'::text as projection, workspace_id, room_id, applied_seq from proj_rooms
where projection = 'room_feed';

-- migrate: rollback

drop view proj_applied;
drop table projector_versions;
