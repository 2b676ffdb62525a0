"""What is known of the request at hand, for whoever logs or traces while it is handled.

Invariant: it belongs to one request. Work that several requests share is begun outside of any of them
(``shared.tasks.begin_shared``), so that no line about it names the one that happened to come first.
"""

from contextvars import ContextVar


class RequestContext:
    """``request_id`` is the client's own or made here; ``traceparent`` is what work for this request is a part of.

    ``correlation_id`` is there once the command is known to have one.
    """

    __slots__ = ("correlation_id", "raw_request_id", "traceparent")

    def __init__(self, raw_request_id: bytes, traceparent: str | None = None) -> None:
        self.raw_request_id = raw_request_id
        self.traceparent = traceparent
        self.correlation_id: str | None = None

    @property
    def request_id(self) -> str:
        return self.raw_request_id.decode("ascii")


_current: ContextVar[RequestContext | None] = ContextVar("runroom_request", default=None)

current_request = _current.get
"""The request that the running task handles, or None."""

enter_request = _current.set
"""To be called once, by the task that handles the request."""
