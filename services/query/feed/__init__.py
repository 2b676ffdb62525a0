"""The feed of a room: its history, its live tail, and each viewer's place in it."""
