-- A page of runs that have all of some tags, newest first. Lines are optional, and bytes bounded, as in list_runs.
-- It goes through the runs that match one of the filters, newest first, until it has found enough that match all: through
-- those of one of the tags, or those that match what is not about tags. Which is best is not estimated but looked up: it
-- is the one whose newest hundred reach back furthest, or that has not as many.
with reaches as materialized (
    select
        wanted.tag,
        (
            select created_at from proj_run_tags
            where workspace_id = :workspace_id and tag = wanted.tag
            and created_at > :created_after -- if created_after
            and created_at < :created_before -- if created_before
            and (created_at, run_id) < (:last_created_at, :last_run_id) -- if last_run_id
            order by created_at desc, run_id desc
            limit 1 offset 100
        ) as reach
    from unnest(:tags::text[]) as wanted (tag)
    union all
    select
        null,
        (
            select max(created_at)
            from
            unnest(:rooms::text[]) as allowed (room_id) cross join -- if rooms
            unnest(:statuses::text[]) as wanted (status) cross join -- if statuses
            lateral (
                select created_at from proj_runs
                where workspace_id = :workspace_id
                and status = wanted.status -- if statuses
                and status = :status -- if status
                and room_id = allowed.room_id -- if rooms
                and room_id = :room_id -- if room_id
                and thread_id = :thread_id -- if thread_id
                and correlation_id = :correlation_id -- if correlation_id
                and created_at > :created_after -- if created_after
                and created_at < :created_before -- if created_before
                and (created_at, run_id) < (:last_created_at, :last_run_id) -- if last_run_id
                order by created_at desc, run_id desc
                limit 1 offset 100
            ) r
        )
),

best as materialized (
    select tag from reaches order by reach nulls first, tag nulls first limit 1
)

select
    r.run_id, r.workspace_id, r.room_id, r.thread_id, r.status, r.title, r.goal, r.input, r.output, r.error, r.summary,
    r.tags, r.created_at, r.started_at, r.ended_at, r.updated_at, r.correlation_id, r.last_event_id::text, r.stream_seq,
    r.has_more
from (
    select
        r.*,
        lead(true) over before is not null as has_more,
        coalesce(
            sum(
                coalesce(octet_length(r.title), 0)
                + coalesce(octet_length(r.goal), 0)
                + coalesce(octet_length(r.summary), 0)
                + coalesce(r.plain_bytes, 0)
            ) over before,
            0
        )
        + coalesce(
            proj_bytes_until(:bytes, r.input, r.output, r.error, r.tags)
            filter (where r.plain_bytes is null) over before,
            0
        ) as bytes_before
    from (
        select r.*, proj_plain_bytes(r.input, r.output, r.error, r.tags) as plain_bytes
        from (
            (
                select r.*
                from (
                    select created_at, run_id from proj_run_tags
                    where workspace_id = :workspace_id and tag = (select tag from best)
                    and room_id = any(:rooms::text[]) -- if rooms
                    and room_id = :room_id -- if room_id
                    and created_at > :created_after -- if created_after
                    and created_at < :created_before -- if created_before
                    and (created_at, run_id) < (:last_created_at, :last_run_id) -- if last_run_id
                ) t
                cross join lateral (select * from proj_runs where run_id = t.run_id offset 0) r
                where r.tags @> :tags::text[]
                and r.status = any(:statuses::text[]) -- if statuses
                and r.status = :status -- if status
                and r.thread_id = :thread_id -- if thread_id
                and r.correlation_id = :correlation_id -- if correlation_id
                order by t.created_at desc, t.run_id desc
                limit :limit
            )
            union all
            select r.*
            from
            unnest(:rooms::text[]) as allowed (room_id) cross join -- if rooms
            unnest(:statuses::text[]) as wanted (status) cross join -- if statuses
            lateral (
                select *
                from proj_runs
                where (select tag from best) is null
                and workspace_id = :workspace_id
                and tags @> :tags::text[]
                and status = wanted.status -- if statuses
                and status = :status -- if status
                and room_id = allowed.room_id -- if rooms
                and room_id = :room_id -- if room_id
                and thread_id = :thread_id -- if thread_id
                and correlation_id = :correlation_id -- if correlation_id
                and created_at > :created_after -- if created_after
                and created_at < :created_before -- if created_before
                and (created_at, run_id) < (:last_created_at, :last_run_id) -- if last_run_id
                order by created_at desc, run_id desc
                limit :limit
            ) r
        ) r
        order by r.created_at desc, r.run_id desc
        limit :limit
    ) r
    window before as (
        order by r.created_at desc, r.run_id desc rows between unbounded preceding and 1 preceding
    )
) r
where r.bytes_before < :bytes
order by r.created_at desc, r.run_id desc
