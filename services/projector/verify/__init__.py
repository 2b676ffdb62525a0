"""Comparing the event store, the stream and the projections of a deployment, while it works.

Invariant: what is on its way is never called a difference. Each side is looked at in an order in which the one that was
looked at later must hold everything the earlier one held.
"""
