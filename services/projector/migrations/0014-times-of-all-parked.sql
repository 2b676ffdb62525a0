-- The same of every row there is, where it holds or can be made to
-- depends: 0013-times-of-parked
-- migrate: apply

-- Nobody knows when it was, and no worker could say it again: what was parked or skipped stays so, as of now. A row that is of
-- another form besides keeps what it has, as in 0012-forms-of-all-workers.
do $$
begin
    update projector_parked set
        error = left(error, 500),
        parked_at = case when parked_at >= '2000-01-01Z' and parked_at < '3000-01-01Z' then parked_at else now() end,
        tried_at = case when tried_at >= '2000-01-01Z' and tried_at < '3000-01-01Z' then tried_at else now() end,
        skipped_at = case
            when skipped_at is null or (skipped_at >= '2000-01-01Z' and skipped_at < '3000-01-01Z') then skipped_at else now()
        end
    where
        not (
            parked_at >= '2000-01-01Z' and parked_at < '3000-01-01Z'
            and tried_at >= '2000-01-01Z' and tried_at < '3000-01-01Z'
            and coalesce(skipped_at >= '2000-01-01Z' and skipped_at < '3000-01-01Z', true)
        )
        and octet_length(projection) <= 128
        and octet_length(workspace_id) <= 128
        and octet_length(room_id) <= 128
        and stream_seq > 0
        and partition between 0 and 31;
    begin
        alter table projector_parked validate constraint projector_parked_times_forms;
    exception when check_violation then
        raise warning 'projector_parked has rows that no projector wrote';
    end;
end
$$;

-- migrate: rollback

select 1;
