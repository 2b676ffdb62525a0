-- Steps without their run: some of them.
select s.step_id, s.workspace_id, s.room_id from proj_steps as s
where not exists (select from proj_runs as r where r.run_id = s.run_id)
limit 100
