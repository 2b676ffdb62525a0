-- From the event store: runs whose last event is not there, or another run's: some of them.
select r.run_id, r.workspace_id, r.room_id
from runs as r
where not exists (select from events as e where e.event_id = r.last_event_id and e.run_id = r.run_id)
limit 100
