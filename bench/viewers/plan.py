"""What viewers are to do, and what they report."""

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """``clients`` connections to ``port``, spread evenly over the ``paths``.

    A client is in place once it has got ``ready``. The first event it gets is the one after position ``after``, which
    it names as its Last-Event-ID unless that is 0.
    """

    port: int
    paths: list[str]
    clients: int
    ready: str = "event: caught-up\n"
    after: int = 0
    workspace_id: str = "bench"


class Order(Struct, frozen=True):
    """Connect every client and wait until all are in place, or (``until``) until all have the event at a position.

    In both cases the clients stay.
    """

    until: int | None = None
    seconds: float = 60.0


class Seen(Struct, frozen=True):
    """When an order was begun and done, and when the first and the last client had each event since the last order.

    Times are of the machine's monotonic clock. ``fault`` is the first thing that was not as it should be, such as an
    event that a client got twice, early or not at all.
    """

    begun: float = 0.0
    done: float = 0.0
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    fault: str = ""
