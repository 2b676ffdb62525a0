-- The indexes of proj_runs but for the one of its primary key, and how they are made.
select indexrelid::regclass::text, pg_get_indexdef(indexrelid)
from pg_index
where indrelid = 'proj_runs_v1'::regclass and not indisprimary
