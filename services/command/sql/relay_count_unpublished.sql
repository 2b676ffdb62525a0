-- How many rooms have something to publish, and how many events.
select count(*) as rooms, coalesce(sum(last_seq - published_seq), 0)::bigint as events
from rooms where published_seq < last_seq
