-- Projectors in the event store: what fills holes, tells lag and is compared by `verify`. Nothing is written.
values
('schema public', 'usage'),
('table rooms', 'select'),
('table events', 'select'),
('table runs', 'select'),
('table relay', 'select')
