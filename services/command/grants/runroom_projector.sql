-- Projectors in the event store: what fills holes, tells lag and is compared by `verify`. Nothing is written.
grant usage on schema public to runroom_projector;

grant select on rooms, events, runs, relay to runroom_projector;
