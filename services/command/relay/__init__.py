"""The relay: puts what is committed on the stream, each event once, each room in order, whatever dies."""
