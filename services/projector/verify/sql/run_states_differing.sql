-- From the event store: runs whose state, by which commands are decided, is not what their events say.
with told as (
    select
        run_id, min(workspace_id) as workspace_id, min(room_id) as room_id, count(*) as version,
        (array_agg(event_id order by stream_seq desc))[1] as last_event_id,
        (array_agg(event_type order by stream_seq desc) filter (where event_type <> 'step.created'))[1] as last_type
    from events
    where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
    group by run_id
)
select told.run_id, told.workspace_id, told.room_id
from told
left join runs on runs.run_id = told.run_id
where (runs.workspace_id, runs.room_id, runs.version, runs.last_event_id, runs.status) is distinct from (
    told.workspace_id, told.room_id, told.version, told.last_event_id,
    case told.last_type
        when 'run.created' then 'queued'
        when 'run.started' then 'running'
        when 'run.completed' then 'succeeded'
        when 'run.failed' then 'failed'
    end
)
