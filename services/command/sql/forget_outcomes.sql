-- Deletes outcomes whose time is over, a bounded number at a time.
-- $1 timestamptz: now
delete from commands where ctid in (
    select ctid from commands where expires_at <= $1 order by expires_at limit 5000 for update skip locked
)
