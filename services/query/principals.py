"""How much of something each principal has, where that is limited: streams, or places to wait in.

Invariant: only those that have any are remembered.
"""

Principal = tuple[str, str]
"""A workspace, and the subject of a token in it."""


class Principals:
    """At most ``limit`` for each. None, a caller without a token, is nobody's: it is neither counted nor limited."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Principal, int] = {}

    def is_full(self, principal: Principal | None) -> bool:
        return principal is not None and self._held.get(principal, 0) >= self._limit

    def enter(self, principal: Principal | None) -> None:
        if principal is not None:
            self._held[principal] = self._held.get(principal, 0) + 1

    def leave(self, principal: Principal | None) -> None:
        if principal is not None:
            self._held[principal] -= 1
            if not self._held[principal]:
                del self._held[principal]
