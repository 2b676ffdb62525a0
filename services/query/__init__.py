"""The query service: reads of runs and steps, and the live stream of a room."""
