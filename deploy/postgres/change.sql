-- `change`: the block in which the scripts beside this one make a change, the statement `%1$L`.
--
-- Whoever has any right to an object may GRANT and REVOKE there: what he has no right to is not done, and the object's row in
-- the catalogue is written all the same. Where somebody does that all the time a change fails (`tuple concurrently updated`),
-- so that it is tried again for as long as a lock is waited for; who leaves such a transaction open is named.
set search_path = pg_catalog, pg_temp;

select $block$
declare
    began constant timestamptz := clock_timestamp();
    tried timestamptz;
    reason text;
    others text;
begin
    loop
        tried := clock_timestamp();
        begin
            execute %1$L;
            return;
        exception
            when lock_not_available or deadlock_detected then
                reason := sqlerrm;
                exit;
            when internal_error then
                reason := sqlerrm;
                tried := clock_timestamp();
                exit when tried > began + current_setting('lock_timeout')::interval;
        end;
    end loop;

    -- Who writes has the number of his transaction locked. What has begun since is not what was waited for.
    select string_agg(
        distinct coalesce(
            'in the session with the pid ' || l.pid, format('prepared as %%s in the database %%I', to_json(p.gid), p.database)
        ), ', '
    )
    into others
    from pg_locks as l
    left join pg_stat_activity as a on a.pid = l.pid
    left join pg_prepared_xacts as p on p.transaction = l.transactionid
    where
        l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and l.pid is distinct from pg_backend_pid()
        and coalesce(a.xact_start <= tried, true);
    raise exception 'a transaction that is still open keeps this from being done, %%: %%',
        coalesce(others, 'of a session that has ended since'), %1$L
        using detail = reason,
        hint = 'End sessions with pg_terminate_backend, and what is prepared, which has none, with rollback prepared;'
            ' docs/operations.md, "When a credential is stolen".';
end
$block$ as change \gset
