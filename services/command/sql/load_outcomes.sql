-- First outcomes stored under idempotency keys.
-- $1 text[], $2 text[]: workspace ids and keys, side by side
select commands.workspace_id, commands.idempotency_key, fingerprint, status, response, expires_at
from commands
join unnest($1::text[], $2::text[]) as wanted (workspace_id, idempotency_key) using (workspace_id, idempotency_key)
