-- The databases of Runroom and who may connect to which, for psql as a superuser, after roles.sql; may be run again.
-- Text sorts by bytes, whatever the locale of the cluster is.
\set ON_ERROR_STOP on
set search_path = pg_catalog, pg_temp;
set lock_timeout = '10s';
\ir change.sql

-- No two at once, to the end of this session. Nobody else connects to this database.
select pg_advisory_lock(23210065317031789) \g /dev/null

select format(
    'create database %I template template0 encoding ''UTF8'' locale_provider builtin builtin_locale ''C.UTF-8'' locale ''C''',
    name
)
from unnest('{event_store, projections}'::text[]) as name
where not exists (select from pg_database where datname = name)
\gexec

-- From here on nothing is said that is so already: each GRANT and REVOKE would write a row that others may write, too.
select format('do %L', format(:'change', statement))
from (
    -- Their owner may have closed them, to this script too.
    select format('alter database %I allow_connections true connection limit -1', datname) as statement
    from pg_database
    where datname in ('event_store', 'projections') and (not datallowconn or datconnlimit >= 0)
    union all
    -- There is nothing in these, but whoever may connect to one may fill it.
    select distinct format('revoke connect, temporary on database %I from public', d.datname)
    from pg_database as d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
    where d.datname in ('postgres', 'template1') and a.grantee = 0
) as needed
\gexec

\connect event_store
\ir ownership.sql
commit;

\connect projections
\ir ownership.sql
commit;
