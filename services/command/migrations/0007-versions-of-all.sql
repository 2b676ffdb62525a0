-- The same of every row there is
-- depends: 0006-versions
-- migrate: apply

-- As 0003.
alter table runs validate constraint runs_versions_forms;

-- migrate: rollback

select 1;
