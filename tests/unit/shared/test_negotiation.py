"""What Accept, Content-Type and Content-Encoding rule out."""

import pytest
from litestar import Request
from litestar.testing import RequestFactory

from shared.http.negotiation import require_acceptable, require_json_body
from shared.http.problems import Problem


def request(**headers: str) -> Request:
    return RequestFactory().get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "application/*",
        "text/html, */*;q=0.1",
        "text/html;q=0.9, application/json;q=0.1",
        "APPLICATION/JSON",
        "",
        "application/json; charset=utf-8",
    ],
)
def test_acceptable(accept: str) -> None:
    require_acceptable(request(accept=accept), "application/json")


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/json;q=0", "text/*", "application/json;q=0, */*", "application/json;q=none", ";;,"],
)
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(Problem) as raised:
        require_acceptable(request(accept=accept), "application/json")
    assert (raised.value.status, raised.value.error) == (406, "not_acceptable")


def test_nothing_said_rules_nothing_out() -> None:
    require_acceptable(request(), "application/json")
    require_json_body(request())


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8", "Application/JSON"])
def test_json(content_type: str) -> None:
    require_json_body(request(content_type=content_type))


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_not_json(content_type: str) -> None:
    with pytest.raises(Problem) as raised:
        require_json_body(request(content_type=content_type))
    assert (raised.value.status, raised.value.error) == (415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_no_coding(coding: str) -> None:
    require_json_body(request(content_encoding=coding))


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "nonsense"])
def test_a_coding(coding: str) -> None:
    with pytest.raises(Problem) as raised:
        require_json_body(request(content_encoding=coding, content_type="application/json"))
    assert (raised.value.status, raised.value.error) == (415, "unsupported_media_type")
