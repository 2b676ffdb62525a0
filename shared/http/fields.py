"""Header fields of a request that have one value."""

from typing import Any

from litestar import Request

from shared.http.problems import invalid_request


def single(request: Request[Any, Any, Any], name: str) -> str | None:
    """The field's value, None when it is not sent.

    Raises a 400 ``Problem`` when it is sent more than once, even if the same: what is in front of the service may have
    looked at the other one.
    """
    values = request.headers.getall(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise invalid_request(f"{name}: sent more than once")
    return values[0]
