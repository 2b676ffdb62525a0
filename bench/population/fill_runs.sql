-- Runs of a year, oldest first; $1 workspace_id of four in five, $2 how many, $3 and $4 the first and last of this part.
-- Of 100 runs one is queued, four are running, five failed. One in twenty is in the room "lobby", the others in rooms
-- of about 100; every second has a thread, of about ten. Every second has the tag "ops", one in a hundred "nightly", 100
-- of all have "incident", and each has that of one of 50 teams. Five share a correlation.
insert into proj_runs_v1
select
    'run_01m84' || lpad(to_hex(n), 21, '0'),
    case when n % 5 = 0 then 'other_' || n % 97 else $1::text end,
    case when dice[1] % 20 = 0 then 'lobby' else 'room_' || dice[2] % greatest($2::bigint / 100, 1) end,
    case when dice[3] % 2 = 0 then 'thread_' || dice[4] % greatest($2::bigint / 20, 1) end,
    status,
    'Plan the offsite ' || n,
    'Everybody in one place for two days',
    '{"people":12,"month":"June"}',
    case when status = 'succeeded' then '{"days":3,"place":"by the sea"}' else '{}' end::json,
    case when status = 'failed' then '{"message":"no date suits everybody"}' else '{}' end::json,
    case when status = 'succeeded' then 'June 12 to 14' end,
    array_remove(
        array[
            'team_' || dice[5] % 50,
            case when dice[6] % 2 = 0 then 'ops' end,
            case when dice[6] % 100 = 7 then 'nightly' end,
            case when n % greatest($2::bigint / 100, 1) = 1 then 'incident' end
        ],
        null
    ),
    created_at,
    case when status <> 'queued' then created_at + interval '1 second' end,
    case when status in ('succeeded', 'failed') then created_at + interval '1 minute' end,
    created_at + interval '1 minute',
    md5((n / 5)::text)::uuid::text,
    md5(n::text)::uuid,
    n
from (
    select
        n,
        dice,
        timestamptz '2025-11-01 00:00:00+00' + interval '365 days' * (n::float8 / $2::bigint) as created_at,
        case
            when dice[7] % 100 = 0 then 'queued'
            when dice[7] % 100 < 5 then 'running'
            when dice[7] % 100 < 10 then 'failed'
            else 'succeeded'
        end as status
    from (
        select
            n,
            array[
                hashint8(n) & 1048575, hashint8(n + 1000000000) & 1048575, hashint8(n + 2000000000) & 1048575,
                hashint8(n + 3000000000) & 1048575, hashint8(n + 4000000000) & 1048575,
                hashint8(n + 5000000000) & 1048575, hashint8(n + 6000000000) & 1048575
            ] as dice
        from generate_series($3::bigint, $4::bigint) as n
    ) thrown
    offset 0
) drawn
