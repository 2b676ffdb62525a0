-- The same of every row there is
-- depends: 0004-lines
-- migrate: apply

-- As 0003, and it reads the envelopes themselves.
alter table events validate constraint events_lines_forms;

-- migrate: rollback

select 1;
