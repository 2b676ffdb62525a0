-- The command service in the event store: what it decides on and writes, and nothing that changes or removes an event.
grant usage on schema public to runroom_command;

-- MAINTAIN: it vacuums the table itself.
grant select, insert, update (last_seq, published_seq), maintain on rooms to runroom_command;
grant select, insert on events to runroom_command;
grant select, insert, update (status, version, last_event_id) on runs to runroom_command;
grant select, insert, update (fingerprint, status, response, expires_at), delete on commands to runroom_command;
grant select, update (stream_created, stream_epoch, stream_position) on relay to runroom_command;
