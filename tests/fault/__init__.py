"""Faults on a whole deployment under load, and the accounts of what became of it: lost, repeated, reordered."""
