-- Ends the sessions of these names, of this role and in this database, and says how many there were. It ends them in what is
-- selected, as no condition is sure to be looked at before another.
select count(pg_terminate_backend(pid))
from pg_stat_activity
where application_name = any ($1::text[]) and usename = session_user and datname = current_database()
