-- How many events a version has been filled with. The sum is bounded: workers' rows may say anything.
select least(greatest(coalesce(sum(applied_seq), 0), 0), 9223372036854775807)::bigint from proj_rooms where projection = $1
