"""The services against their own descriptions: whatever these allow or forbid, the answer is one they describe.

Requests are made from the published documents, half of them in form and half of them not. Each answer has a status, a
media type and a body that the document has for it, is no 500, and comes in time; what is in form is taken. The
examples are the same each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Response, checks
from schemathesis.specs.openapi import checks as openapi_checks

from .stacks import Deployment

DOCS = Path(__file__).parents[2] / "docs"
SECONDS = 30.0
CONFORMS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
FEW = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)


def described(name: str) -> Any:
    schema = schemathesis.openapi.from_path(DOCS / f"openapi-{name}.json")
    schema.config.generation.update(modes=list(schemathesis.GenerationMode), deterministic=True)
    return schema


commands = described("command").include(tag="commands")
reads = described("query").include(tag="reads")


def conforms(case: schemathesis.Case, url: str) -> Response:
    response = case.call(base_url=url, timeout=SECONDS)
    if response.status_code == 503:
        # Expected of reads: min_seq may ask for what is not there. Everything else about it is checked.
        assert response.json()["error"] == "projection_behind"
        case.validate_response(response, checks=CONFORMS[1:])
    else:
        case.validate_response(response, checks=CONFORMS)
    return response


@commands.parametrize()
@FEW
def test_commands_answer_as_described(case: schemathesis.Case, deployment: Deployment) -> None:
    response = conforms(case, deployment.command_url)
    if response.status_code == 400 and case.meta is not None and case.meta.generation.mode.is_positive:
        # What a schema cannot say of any JSON object, or of what is printable.
        assert "NUL" in response.json()["detail"] or "printable" in response.json()["detail"], response.text


@reads.parametrize()
@FEW
def test_reads_answer_as_described(case: schemathesis.Case, deployment: Deployment) -> None:
    if "min_seq" in case.query:
        case.query["wait"] = 0  # what never comes is not waited for
    conforms(case, deployment.query_url)
