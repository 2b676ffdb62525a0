-- Where the relay stood last.
select stream_created, stream_epoch, stream_position from relay
