"""What Accept, Content-Type and Content-Encoding rule out."""

import pytest
from litestar import Request
from litestar.testing import RequestFactory

from shared.http.negotiation import require_acceptable, require_json_body
from shared.http.problems import Problem
from tests.support.work import counted

MOST_CALLS = 2_000


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


@pytest.mark.parametrize(
    "accept", ["," * 60_000, ";" * 60_000, "*/*;q=1," * 7_500, "*/*" + ";q=0" * 15_000, "*/*,;" * 51]
)
def test_a_list_of_what_is_accepted_has_an_end(accept: str) -> None:
    asking = request(accept=accept)
    with counted() as calls, pytest.raises(Problem) as raised:
        require_acceptable(asking, "application/json")
    assert (raised.value.status, raised.value.error) == (400, "invalid_request")
    assert raised.value.detail.startswith("Accept: ")
    assert calls.count < MOST_CALLS


def test_a_long_list_is_taken() -> None:
    kinds = ", ".join(f"application/vnd.a{n}+json;q=0.5" for n in range(49))
    require_acceptable(request(accept=f"{kinds}, */*;q=0.1"), "application/json")
    with pytest.raises(Problem) as raised:
        require_acceptable(request(accept=kinds), "application/json")
    assert raised.value.status == 406


@pytest.mark.parametrize("parameters", [";" * 60_000, ";charset=utf-8" * 4_000, ";a" * 101])
def test_parameters_of_a_content_type_have_an_end(parameters: str) -> None:
    asking = request(content_type=f"application/json{parameters}")
    with counted() as calls, pytest.raises(Problem) as raised:
        require_json_body(asking)
    assert (raised.value.status, raised.value.error) == (415, "unsupported_media_type")
    assert calls.count < MOST_CALLS
