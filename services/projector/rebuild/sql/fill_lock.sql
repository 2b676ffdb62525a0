-- One process fills a partition of a version at a time, for as long as its session lasts.
select pg_advisory_lock(hashtext('fill ' || $1), $2)
