-- Which of these events were committed.
-- $1 uuid[]: event ids
select event_id from events where event_id = any($1)
