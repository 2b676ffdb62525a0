-- The statements that give a table the grants another has.
select format(
    'grant %s on %s to %s%s', a.privilege_type, $2::text::regclass,
    case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
    case when a.is_grantable then ' with grant option' else '' end
)
from pg_class as c cross join lateral aclexplode(c.relacl) as a
where c.oid = $1::text::regclass and a.grantee <> c.relowner
