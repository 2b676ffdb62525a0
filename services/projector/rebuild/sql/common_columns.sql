-- The columns two tables have in common, but for the hint of where the stream held an event, as what is to be hashed.
-- What has no hash of its own, or another type in the other table, is hashed as text.
select
    case
        when a.atttypid = b.atttypid and exists (
            select from pg_opclass as o
            join pg_am as m on m.oid = o.opcmethod and m.amname = 'hash'
            where o.opcintype = a.atttypid and o.opcdefault
        ) then format('t.%I', a.attname)
        else format('t.%I::text', a.attname)
    end as expression
from pg_attribute as a
join pg_attribute as b
    on b.attrelid = $2::text::regclass and b.attname = a.attname and b.attnum > 0 and not b.attisdropped
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped and a.attname <> 'stream_position'
order by a.attname
