"""W3C trace context, as far as a service has to look at it.

Invariant: what passes here is a valid ``traceparent`` and safe as a header value and a text.
"""

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def is_traceparent(value: str) -> bool:
    """Whether value is a ``traceparent`` (W3C Trace Context, section 3.2): version, trace id, span id and flags."""
    return _TRACEPARENT.fullmatch(value) is not None


def is_sampled(traceparent: str) -> bool:
    """Whether the caller says that it records the trace."""
    return traceparent[-1] in "13579bdf"


def trace_and_span(traceparent: str) -> tuple[str, str]:
    """Trace id (32 hex digits) and span id (16)."""
    return traceparent[3:35], traceparent[36:52]
