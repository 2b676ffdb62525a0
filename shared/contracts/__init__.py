"""The published contract as types: events, their envelope, identifiers and subjects. Pure; imports msgspec alone."""
