-- Where the relay stood last: nowhere, by a row of before the table's constraint that no relay has written.
select
    case when is_ours then stream_created else '' end as stream_created,
    case when is_ours then stream_epoch else 0 end as stream_epoch,
    case when is_ours then stream_position else 0 end as stream_position
from relay
cross join lateral (
    select octet_length(stream_created) <= 64 and stream_epoch between 0 and 9007199254740991 and stream_position >= 0
        as is_ours
) as form
