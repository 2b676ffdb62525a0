-- From the event store: runs whose state, by which commands are decided, is not what the events of their room say. What
-- another room's events say of a run is nothing to it, an event of a type that is none moves no run, and a run that no event
-- has created is none.
with told as (
    select
        workspace_id, room_id, run_id,
        bool_or(event_type = 'run.created') as created,
        count(*) filter (where moves) as version,
        (array_agg(event_id order by stream_seq desc) filter (where moves))[1] as last_event_id,
        (array_agg(event_type order by stream_seq desc) filter (
            where event_type in ('run.started', 'run.completed', 'run.failed')
        ))[1] as last_type
    from (
        select
            *, event_type in ('run.created', 'run.started', 'run.completed', 'run.failed', 'step.created') as moves
        from events
        where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
    ) as event
    group by workspace_id, room_id, run_id
)
select told.run_id, told.workspace_id, told.room_id
from told
left join runs on runs.run_id = told.run_id
where
    (runs.run_id is null or (runs.workspace_id, runs.room_id) = (told.workspace_id, told.room_id))
    and case when told.created
        then (runs.version, runs.last_event_id, runs.status) is distinct from (
            told.version, told.last_event_id,
            case told.last_type
                when 'run.started' then 'running'
                when 'run.completed' then 'succeeded'
                when 'run.failed' then 'failed'
                else 'queued'
            end
        )
        else runs.run_id is not null
    end
