-- The columns two tables have in common, but for the hint of where the stream held an event.
select column_name from information_schema.columns where table_schema = 'public' and table_name = $1
intersect
select column_name from information_schema.columns where table_schema = 'public' and table_name = $2
except
select 'stream_position'
order by 1
