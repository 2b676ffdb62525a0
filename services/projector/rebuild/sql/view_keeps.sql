-- The statements that give a view, made anew, the owner and the grants it has now.
select format('alter view %s owner to %I', c.oid::regclass, pg_get_userbyid(c.relowner)) as statement
from pg_class as c where c.oid = $1::text::regclass
union all
select format(
    'grant %s on %s to %s%s', a.privilege_type, c.oid::regclass,
    case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
    case when a.is_grantable then ' with grant option' else '' end
)
from pg_class as c cross join lateral aclexplode(c.relacl) as a where c.oid = $1::text::regclass
