-- What is to be said so that the role has with the tables of the schema `public` what it is wanted to have, and nothing else.
-- Nothing where it has: a GRANT or REVOKE writes the table's row in the catalogue, changed or not, and whoever has any right to
-- the table may have written that in a transaction that is still open.
with wanted as (
    select kind, object, upper(parts[1]) as privilege, member as column_name
    from (
        select
            split_part(object, ' ', 1) as kind, rights,
            case split_part(object, ' ', 1)
                when 'table' then substring(object from ' (.*)')::regclass::oid
                when 'function' then substring(object from ' (.*)')::regprocedure::oid
                when 'schema' then substring(object from ' (.*)')::regnamespace::oid
            end as object
        from ({wanted}) as rule (object, rights)
    ) as rule
    cross join regexp_matches(rights, '(\w+)(?: \(([^)]+)\))?', 'g') as parts
    left join string_to_table(parts[2], ', ') as member on true
),
present as (
    select 'table' as kind, c.oid as object, null as column_name, acl.*
    from pg_class as c, aclexplode(c.relacl) as acl
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select 'table', c.oid, quote_ident(attname), acl.*
    from pg_class as c inner join pg_attribute on attrelid = c.oid, aclexplode(attacl) as acl
    where c.relnamespace = 'public'::regnamespace and not attisdropped
    union all
    select 'function', p.oid, null, acl.* from pg_proc as p, aclexplode(p.proacl) as acl
    union all
    select 'schema', n.oid, null, acl.* from pg_namespace as n, aclexplode(n.nspacl) as acl
),
has as (
    select kind, object, privilege_type as privilege, column_name, is_grantable
    from present where grantee = '{role}'::regrole
),
needed as (
    -- What it may hand on it has by nobody's wish.
    select 1 as turn, 'revoke %s on %s %s from %I' as form, has.*
    from has
    where
        kind = 'table' and (
            is_grantable or not exists (
                select from wanted
                where
                    (wanted.kind, wanted.object, wanted.privilege) = (has.kind, has.object, has.privilege)
                    and wanted.column_name is not distinct from has.column_name
            )
        )
    union all
    select 2, 'grant %s on %s %s to %I', wanted.*, false
    from wanted
    where
        not exists (
            select from has
            where
                (wanted.kind, wanted.object, wanted.privilege) = (has.kind, has.object, has.privilege)
                and wanted.column_name is not distinct from has.column_name and (kind <> 'table' or not is_grantable)
        )
)
select
    format(
        form, string_agg(privilege || coalesce(' (' || column_name || ')', ''), ', '), kind,
        case kind
            when 'table' then object::regclass::text
            when 'function' then object::regprocedure::text
            when 'schema' then object::regnamespace::text
        end, '{role}'
    )
from needed
group by turn, form, kind, object
order by turn, kind, object
