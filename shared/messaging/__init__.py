"""Reaching NATS: one connection that always comes back, the stream's own state, and reads straight from the stream."""
