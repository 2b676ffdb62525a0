-- Versions say which schema their tables have, and are filled by partition
-- depends: 0003-versions
-- migrate: apply

-- How far a fill has come is in proj_rooms: a room at 0 is yet to be filled. schema is that of the code that began the
-- version; workers run versions of their own schema.
alter table projector_versions
drop column workspace_id,
drop column room_id,
drop column events,
add column schema integer not null default 1;

-- A fill that was begun before cannot be gone on with: it can only be dropped.
update projector_versions set state = 'retired', schema = 0 where state = 'building';

-- None of its columns ever changes, so that updates of applied_seq stay within their page.
create index proj_rooms_partition on proj_rooms (projection, partition, workspace_id, room_id);

-- migrate: rollback

drop index proj_rooms_partition;
alter table projector_versions
drop column schema,
add column workspace_id text collate "C" not null default '',
add column room_id text collate "C" not null default '',
add column events bigint not null default 0;
