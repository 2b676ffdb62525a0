-- A page of runs, newest first. A line that ends in "-- if name" is part of the statement only when that filter is
-- given, and one that ends in "-- if not name" only when it is not, so that each combination is its own statement and
-- finds its own index. Of several statuses or rooms each is a scan of its own, in order, so at most
-- (rooms x statuses x limit) rows are sorted. A page is bounded in bytes too, but has at least one row if there is one;
-- `has_more` says whether another row within the limit follows. How long values are that are not compressed is known without
-- reading them, and of the others no more are read than the page may have.
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
        from
        unnest(:rooms::text[]) as allowed (room_id) cross join -- if rooms
        unnest(:statuses::text[]) as wanted (status) cross join -- if statuses
        lateral (
            select *
            from proj_runs
            where workspace_id = :workspace_id
            and status = wanted.status -- if statuses
            and status = :status -- if status
            and room_id = allowed.room_id -- if rooms
            and room_id = :room_id -- if room_id
            and thread_id = :thread_id -- if thread_id
            and correlation_id = :correlation_id -- if correlation_id
            and tags @> :tags::text[] -- if tags
            and created_at > :created_after -- if created_after
            and created_at < :created_before -- if created_before
            and (created_at, run_id) < (:last_created_at, :last_run_id) -- if last_run_id
            order by created_at desc, run_id desc
            limit :limit
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
