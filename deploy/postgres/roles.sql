-- The roles of Runroom, for psql as a superuser; to be run again whenever something here has changed.
-- Passwords come as SCRAM verifiers from the environment, so that the server never sees one. What each role may do with
-- tables is beside the migrations of the service that owns them: services/*/grants/.
\set ON_ERROR_STOP on
-- Before anything else: no name here is to mean what somebody else has made.
set search_path = pg_catalog, pg_temp;
set client_min_messages = warning;
-- Whoever has a role's password may change the role in a transaction and leave that open.
set lock_timeout = '10s';

-- All of it or nothing, and no two at once, who would change the same rows: the second waits for the table locks, to the end.
begin;
do $$
begin
    if current_setting('server_version_num')::integer < 170000 then
        raise exception 'Runroom needs PostgreSQL 17 or newer, and this server is %', current_setting('server_version');
    end if;
    lock table pg_authid, pg_db_role_setting in share row exclusive mode;
exception when lock_not_available then
    raise exception 'a transaction that is still open has changed roles or their settings, %',
        (
            select string_agg(
                distinct coalesce(
                    'in the session with the pid ' || l.pid,
                    format('prepared as %s in the database %I', to_json(p.gid), p.database)
                ), ', '
            )
            from pg_locks as l
            -- What is prepared has no session, but its own number locked.
            left join pg_locks as k on l.pid is null and k.virtualtransaction = l.virtualtransaction
            left join pg_prepared_xacts as p on p.transaction = k.transactionid
            where
                l.relation in ('pg_authid'::regclass, 'pg_db_role_setting'::regclass)
                and l.granted and l.mode <> 'AccessShareLock' and (l.pid is not null or p.gid is not null)
        )
        using hint = 'End sessions with pg_terminate_backend, and what is prepared, which has none, with rollback prepared;'
            ' docs/operations.md, "When a credential is stolen".';
end
$$;

\getenv migrate_verifier RUNROOM_MIGRATE_VERIFIER
\getenv command_verifier RUNROOM_COMMAND_VERIFIER
\getenv projector_verifier RUNROOM_PROJECTOR_VERIFIER
\getenv query_verifier RUNROOM_QUERY_VERIFIER

select format('create role %I', name)
from unnest('{runroom_migrate, runroom_command, runroom_projector, runroom_query}'::text[]) as name
where not exists (select from pg_roles where rolname = name)
\gexec

-- Owns both databases. Services never use it.
alter role runroom_migrate password :'migrate_verifier';
alter role runroom_command password :'command_verifier';
alter role runroom_projector password :'projector_verifier';
alter role runroom_query password :'query_verifier';

-- A role may change its own settings, in each database too, and the owner those of its databases: what somebody has made
-- of them goes.
select
    case
        when s.setrole = 0 then format('alter database %I reset all', d.datname)
        when s.setdatabase = 0 then format('alter role %I reset all', r.rolname)
        else format('alter role %I in database %I reset all', r.rolname, d.datname)
    end
from pg_db_role_setting as s
left join pg_roles as r on r.oid = s.setrole
left join pg_database as d on d.oid = s.setdatabase
where
    r.rolname in ('runroom_migrate', 'runroom_command', 'runroom_projector', 'runroom_query')
    or (s.setrole = 0 and d.datdba = 'runroom_migrate'::regrole)
\gexec

-- Before this release two of them could become this role, and change its settings. ALTER ROLE changes none of PostgreSQL's own.
delete from pg_db_role_setting where setrole = 'pg_use_reserved_connections'::regrole;

-- The services end their statements themselves, and earlier. These bound accidents: a service that hangs, a person with
-- psql. They are no right: a session sets them as it likes.
alter role runroom_command set statement_timeout = '60s';
alter role runroom_command set idle_in_transaction_session_timeout = '60s';
-- Not its statements: `verify` and filling take as long as they take.
alter role runroom_projector set idle_in_transaction_session_timeout = '60s';
alter role runroom_query set statement_timeout = '30s';
alter role runroom_query set idle_in_transaction_session_timeout = '30s';
alter role runroom_query set default_transaction_read_only = on;

-- This is a right: a superuser has said it, and no session can have more. What a session may write to disk to sort or to
-- hold a result in; `verify` compares rooms that way, the other two do not need any.
alter role runroom_command set temp_file_limit = '32MB';
alter role runroom_projector set temp_file_limit = '4GB';
alter role runroom_query set temp_file_limit = '32MB';

-- Rights as well. A statement that fails is in the server's log, and its text with it: so is whatever a session wants to have
-- there, 300 MB in two seconds. Services log their own errors.
select format('alter role %I set %s', name, setting)
from unnest('{runroom_command, runroom_projector, runroom_query}'::text[]) as name
cross join unnest(array['log_min_messages = fatal', 'log_min_error_statement = panic']) as setting
\gexec

-- Connections: whoever takes all that one role may have keeps no other role out. These are shares of what this server has,
-- which is counted again each time this is run (docs/decisions/0042-connections-by-share.md).
select format(
    'alter role %I connection limit %s', name,
    greatest(
        1,
        share * (
            current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
            - current_setting('reserved_connections')::integer
        ) / 100
    )
)
from (
    values ('runroom_query', 40), ('runroom_projector', 40), ('runroom_command', 12), ('runroom_migrate', 8)
) as shares (name, share)
\gexec

-- With `reserved_connections` on the server, commands find a connection whatever else is on it, and beside these roles. They
-- have that right, and do not become the role that has it: whose settings would be theirs to change.
grant pg_use_reserved_connections to runroom_command, runroom_migrate with inherit true, set false;
commit;

-- Roles that may not log in, being new or because a thief is shut out, may from here on. Whoever is logging in just now is ended
-- first: the server has read the password of before when that began, and asks only at its end whether the role may log in.
begin;
lock table pg_authid in share row exclusive mode;
select pg_terminate_backend(l.pid)
from pg_locks as l
left join pg_stat_activity as a using (pid)
where
    l.locktype = 'virtualxid' and a.usename is null and coalesce(a.backend_type, 'client backend') = 'client backend'
    and exists (
        select from pg_roles
        where rolname in ('runroom_migrate', 'runroom_command', 'runroom_projector', 'runroom_query') and not rolcanlogin
    )
\g /dev/null

select format('alter role %I login', rolname)
from pg_roles
where rolname in ('runroom_migrate', 'runroom_command', 'runroom_projector', 'runroom_query') and not rolcanlogin
\gexec
commit;
