"""The command service: validates, decides, appends to the event store, and relays what it committed to the stream."""
