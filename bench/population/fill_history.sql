-- The same number of events in the history of each room; $1 workspace_id, $2 room_ids, $3 events.
insert into proj_room_events_v1 (workspace_id, room_id, stream_seq, stream_position, envelope)
select
    $1::text, room_id, seq, 0,
    convert_to(
        format(
            '{"event_type":"step.created","event_id":"%1$s","event_version":1,'
            '"occurred_at":"2026-06-01T08:00:00.000000Z","recorded_at":"2026-06-01T08:00:00.000000Z",'
            '"workspace_id":"%2$s","room_id":"%3$s","thread_id":null,"run_id":"run_01m84jzfr2e95v1yr6wdbnh1gj",'
            '"step_id":"step_01m84jzfsder1szm69xbech6j9","actor_type":"service","actor_id":"api","stream_type":"room",'
            '"stream_id":"%3$s","stream_seq":%4$s,"correlation_id":"706b4f5c-ae37-4553-8f1d-534b65f55bed",'
            '"causation_id":"%1$s","data":{"run_id":"run_01m84jzfr2e95v1yr6wdbnh1gj",'
            '"step_id":"step_01m84jzfsder1szm69xbech6j9","kind":"tool","title":"Find a date","input":{"month":"June"}}}',
            md5(room_id || seq)::uuid, $1, room_id, seq
        ),
        'UTF8'
    )
from unnest($2::text[]) as room_id cross join generate_series(1, $3::integer) as seq
