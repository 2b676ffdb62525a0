-- One rebuild of a projection at a time, for as long as the session lasts.
select pg_try_advisory_lock(hashtext('rebuild ' || $1))
