-- From the event store: how many events there are.
select coalesce(sum(last_seq), 0)::bigint from rooms
