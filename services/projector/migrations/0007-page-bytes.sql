-- How long rows are, without reading more of them than a page holds
-- depends: 0006-run-tags
-- migrate: apply

-- What the values of a row take, as known without reading them; null if one of them is compressed, whose length only
-- reading it tells. An expression that PostgreSQL puts in place of the call.
create function proj_plain_bytes(input json, output json, error json, tags text[]) returns integer
language sql stable parallel safe as $$
    select case
        when coalesce(
            pg_column_compression(input), pg_column_compression(output), pg_column_compression(error),
            pg_column_compression(tags)
        ) is null
        then pg_column_size(input) + pg_column_size(output) + pg_column_size(error)
            + coalesce(pg_column_size(tags), 0)
    end
$$;

create function proj_bytes_add(bytes bigint, most bigint, input json, output json, error json, tags text[])
returns bigint language sql stable parallel safe as $$
    select case
        when bytes >= most then bytes
        else bytes + octet_length(input::text) + octet_length(output::text) + octet_length(error::text)
            + coalesce(octet_length(tags::text), 0)
    end
$$;

-- What the values of rows take, one row after the other: those after the row with which it comes to the first argument
-- are not read.
create aggregate proj_bytes_until(bigint, json, json, json, text[]) (
    sfunc = proj_bytes_add, stype = bigint, initcond = '0'
);

-- migrate: rollback

drop aggregate proj_bytes_until(bigint, json, json, json, text[]);
drop function proj_bytes_add(bigint, bigint, json, json, json, text[]);
drop function proj_plain_bytes(json, json, json, text[]);
