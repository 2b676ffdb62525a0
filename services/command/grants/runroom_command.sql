-- The command service in the event store: what it decides on and writes, and nothing that changes or removes an event.
-- MAINTAIN: it vacuums the table itself.
values
('schema public', 'usage'),
('table rooms', 'select, insert, update (last_seq, published_seq), maintain'),
('table events', 'select, insert'),
('table runs', 'select, insert, update (status, version, last_event_id)'),
('table commands', 'select, insert, update (fingerprint, status, response, expires_at), delete'),
('table relay', 'select, update (stream_created, stream_epoch, stream_position)')
