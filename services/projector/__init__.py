"""Keeps the projections up to date, with any number of workers at a time."""
