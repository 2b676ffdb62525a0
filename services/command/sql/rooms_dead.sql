-- Whether the table of rooms is mostly dead rows, as far as PostgreSQL has counted them.
select coalesce(bool_or(n_dead_tup > greatest(10000, n_live_tup)), false)
from pg_stat_user_tables
where schemaname = current_schema() and relname = 'rooms'
