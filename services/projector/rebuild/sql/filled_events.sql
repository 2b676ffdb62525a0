-- How many events a version has been filled with.
select coalesce(sum(applied_seq), 0)::bigint from proj_rooms where projection = $1
