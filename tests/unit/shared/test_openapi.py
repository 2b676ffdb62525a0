"""The description of a service is a document, and nothing but that."""

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from shared.http.openapi import openapi_config
from shared.http.problems import EXCEPTION_HANDLERS


@pytest.fixture(scope="module")
def client():
    app = Litestar([], openapi_config=openapi_config("title", "text"), exception_handlers=EXCEPTION_HANDLERS)
    with TestClient(app) as client:
        yield client


def test_the_document(client: TestClient[Litestar]) -> None:
    document = client.get("/schema/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "title"


def test_what_is_not_there_is_a_problem_and_no_page(client: TestClient[Litestar]) -> None:
    answer = client.get("/schema/swagger")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["error"] == "not_found"
