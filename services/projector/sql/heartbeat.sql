-- Says that a worker is alive, for so many seconds from now by this database's clock.
insert into projector_workers as w (worker_id, projections, expires_at)
values ($1, $2, now() + make_interval(secs => $3))
on conflict (worker_id) do update set projections = excluded.projections, expires_at = excluded.expires_at
