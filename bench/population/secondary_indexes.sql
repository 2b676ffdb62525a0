-- The indexes of proj_runs and of its tags but for the one of its primary key, and how they are made.
select indexrelid::regclass::text, pg_get_indexdef(indexrelid)
from pg_index
where indrelid in ('proj_runs_v1'::regclass, 'proj_run_tags_v1'::regclass) and not indisprimary
