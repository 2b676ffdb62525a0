"""The rules of runs and steps. Pure: no I/O, no clock, no randomness of its own."""
