-- What is to be said in the turn $1 (of 1, 2, 3) so that the role has in the schema `public` what it is wanted to have, and
-- neither it nor everybody anything else. Nothing where that is so: a GRANT or REVOKE writes the object's row in the catalogue,
-- changed or not, and whoever has any right to the object may have written that in a transaction that is still open.
--
-- Each turn is to be asked for when the one before is done: a REVOKE takes more than it names, the rights to a table's columns
-- with the one to the table, and what was handed on with the right to do so.
with wanted as (
    select kind, object, upper(parts[1]) as privilege, coalesce(member, '') as column_name
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
    select kind, object, privilege_type as privilege, column_name, owner, grantor, grantee, is_grantable
    from (
        select 'table' as kind, oid as object, '' as column_name, relowner as owner, relacl as acl
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
        union all
        select 'table', c.oid, quote_ident(attname), relowner, attacl
        from pg_class as c inner join pg_attribute on attrelid = c.oid
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and not attisdropped
        union all
        select 'function', oid, '', proowner, coalesce(proacl, acldefault('f', proowner)) from pg_proc where pronamespace = 'public'::regnamespace
        union all
        select 'schema', oid, '', nspowner, nspacl from pg_namespace where nspname = 'public'
    ) as objects, aclexplode(acl)
),
-- Of the objects that are whoever says this; what is another's, as an extension's, is not his to change.
ours as (
    select * from present
    where grantee in ('{role}'::regrole, 0) and pg_has_role(owner, 'usage')
),
needed as (
    -- Others may hand on what they were given with that option, and nobody else takes it back: it goes with the option. Who has
    -- it for a table may give rights to columns, which stay when he has lost it; so he is given it for the column, and then not.
    select
        1 as turn, kind, object, grantor::regrole::text as role, privilege, column_name,
        'grant %1$s on %2$s to %3$s with grant option; revoke ' || case when keeps then 'grant option for ' else '' end
        || '%1$s on %2$s from %3$s cascade' as form
    from (
        select distinct
            kind, object, privilege, column_name, p.grantor,
            exists (
                select from present as k
                where
                    (k.kind, k.object, k.privilege, k.column_name) = (p.kind, p.object, p.privilege, p.column_name)
                    and k.grantee = p.grantor and k.grantor = k.owner
            ) as keeps
        from present as p
        where
            p.grantor <> p.owner and exists (
                select from ours as o
                where
                    (o.kind, o.object, o.privilege, o.column_name) = (p.kind, p.object, p.privilege, p.column_name)
                    and o.grantor <> o.owner
            )
    ) as handed_on
    -- Who has an option for all of an object without the owner has it from somebody who has it from the owner.
    where keeps or column_name <> ''
    union all
    -- What it may hand on it has by nobody's wish.
    select
        2, kind, object, case grantee when 0 then 'public' else grantee::regrole::text end, privilege, column_name,
        'revoke %s on %s from %s cascade'
    from ours
    where
        grantor = owner and (
            grantee = 0 or is_grantable
            or (kind, object, privilege, column_name) not in (select kind, object, privilege, column_name from wanted)
        )
    union all
    select 3, kind, object, '{role}'::regrole::text, privilege, column_name, 'grant %s on %s to %s'
    from wanted
    where
        (kind, object, privilege, column_name) not in (
            select kind, object, privilege, column_name from present
            where grantee = '{role}'::regrole and grantor = owner
        )
)
select
    format(
        form, string_agg(privilege || coalesce(' (' || nullif(column_name, '') || ')', ''), ', '),
        kind || ' ' || case kind
            when 'table' then object::regclass::text
            when 'function' then object::regprocedure::text
            when 'schema' then object::regnamespace::text
        end, role
    )
from needed
where turn = $1
group by form, kind, object, role
order by kind, object, role
