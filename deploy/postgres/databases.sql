-- The databases of Runroom and who may connect to which, for psql as a superuser, after roles.sql; may be run again.
-- Text sorts by bytes, whatever the locale of the cluster is.
\set ON_ERROR_STOP on
set search_path = pg_catalog, pg_temp;
set lock_timeout = '10s';

-- No two at once, to the end of this session. Nobody else connects to this database.
select pg_advisory_lock(23210065317031789) \g /dev/null

select format(
    'create database %I template template0 encoding ''UTF8'' locale_provider builtin builtin_locale ''C.UTF-8'' locale ''C''',
    name
)
from unnest('{event_store, projections}'::text[]) as name
where not exists (select from pg_database where datname = name)
\gexec

-- Their owner may have closed them, to this script too.
select format('alter database %I allow_connections true connection limit -1', datname)
from pg_database
where datname in ('event_store', 'projections') and (not datallowconn or datconnlimit >= 0)
\gexec

-- There is nothing in these, but whoever may connect to one may fill it.
revoke connect, temporary on database postgres, template1 from public;

\connect event_store
\ir ownership.sql
grant connect on database event_store to runroom_command, runroom_projector;
-- By this lock the relay has one leader.
grant execute on function pg_try_advisory_lock(bigint) to runroom_command;
commit;

\connect projections
\ir ownership.sql
grant connect on database projections to runroom_projector, runroom_query;
commit;
