"""Building a projection anew beside the one that is read, and switching over.

Invariant: readers see the old version, whole, until in one transaction they see the new one, which has then come as far
in every room. Until that transaction nothing of the old version is touched, and after it nothing until it is dropped.
"""
