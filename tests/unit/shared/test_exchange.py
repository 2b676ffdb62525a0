"""What an operator is told of a request: its id, a few lines in the log, one metric."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import REGISTRY

from shared import telemetry
from shared.context import current_request
from shared.http import exchange
from shared.http.exchange import ObservedApp, current_exchange
from shared.telemetry import LineBudget

SECONDS = "runroom_http_request_seconds_count"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Answering:
    """An application that answers with a status, and notes what it is told of the request."""

    def __init__(self, status: int = 200, *, reported: bool = False) -> None:
        self.status = status
        self.reported = reported
        self.traceparent: str | None = None
        self.request_id = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request()
        assert request is not None
        self.request_id, self.traceparent = request.request_id, request.traceparent
        if self.reported and (observed := current_exchange()) is not None:
            observed.is_reported = True
        shared_headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": self.status, "headers": shared_headers})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        assert shared_headers == [(b"content-type", b"text/plain")]


def ask(
    app: ASGIApp, *headers: tuple[bytes, bytes], method: str = "GET", template: str | None = "/v1/x"
) -> list[bytes]:
    """The values of ``x-request-id`` in the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def handle() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/v1/x",
            "raw_path": b"/v1/x",
            "query_string": b"token=secret",
            "headers": list(headers),
        }
        if template is not None:
            scope["path_template"] = template
        await ObservedApp(app)(cast("Scope", scope), cast("Receive", None), send)

    asyncio.run(handle())
    return [value for name, value in cast("Any", sent[0])["headers"] if name == b"x-request-id"]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is written to the log, with budgets that nobody has taken from."""
    written: list[dict[str, Any]] = []

    class Log:
        def log(self, level: int, event: str, **named: Any) -> None:
            written.append({"level": level, "event": event, **named})

    monkeypatch.setattr(exchange, "_log", Log())
    monkeypatch.setattr(exchange, "_failed", LineBudget(10))
    monkeypatch.setattr(exchange, "_refused", LineBudget(10))
    monkeypatch.setattr(exchange, "_slow", LineBudget(10))
    caplog.set_level(logging.INFO, "http")
    return written


def test_a_well_formed_request_id_is_the_clients_own() -> None:
    app = Answering()
    assert ask(app, (b"x-request-id", b"abc-1!~")) == [b"abc-1!~"]
    assert app.request_id == "abc-1!~"


@pytest.mark.parametrize("given", [b"", b"two words", b"x" * 129, b"tab\tbed", "ümlaut".encode(), b"\x7f"])
def test_a_malformed_request_id_is_replaced(given: bytes) -> None:
    (answered,) = ask(Answering(), (b"x-request-id", given))
    assert answered != given
    assert 0 < len(answered) <= 128
    assert b" " not in answered


def test_every_request_without_one_gets_an_id_of_its_own() -> None:
    ids = [ask(Answering())[0] for _ in range(5)]
    assert len(set(ids)) == 5
    assert all(ids)


def test_the_clients_trace_is_taken_and_nonsense_is_not() -> None:
    app = Answering()
    ask(app, (b"traceparent", TRACEPARENT.encode()))
    assert app.traceparent == TRACEPARENT
    ask(app, (b"traceparent", TRACEPARENT.replace("0af7", "0AF7").encode()))
    assert app.traceparent is None


def test_requests_are_counted_by_path_template_and_class_of_status() -> None:
    def counted(route: str, status: str) -> float:
        return REGISTRY.get_sample_value(SECONDS, {"route": route, "status": status}) or 0

    before = counted("POST /v1/x", "4xx"), counted("OTHER none", "4xx")
    ask(Answering(404), method="POST")
    ask(Answering(405), method="BREW", template=None)
    ask(Answering(409), method="POST")
    assert (counted("POST /v1/x", "4xx"), counted("OTHER none", "4xx")) == (before[0] + 2, before[1] + 1)


def test_what_is_well_is_not_logged(lines: list[dict[str, Any]]) -> None:
    ask(Answering(201))
    ask(Answering(404))
    assert lines == []


def test_an_answer_that_fails_is_one_line_without_the_query(lines: list[dict[str, Any]]) -> None:
    ask(Answering(503))
    (line,) = lines
    assert (line["level"], line["event"], line["status"], line["path"]) == (
        logging.WARNING,
        "request_failed",
        503,
        "/v1/x",
    )
    assert "secret" not in str(line)


def test_a_failure_that_is_reported_already_is_not_reported_again(lines: list[dict[str, Any]]) -> None:
    ask(Answering(500, reported=True))
    assert lines == []


def test_a_slow_answer_is_a_line(lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SLOW_SECONDS", 0.0)
    ask(Answering(200))
    assert [line["event"] for line in lines] == ["request_slow"]


def test_lines_are_bounded_and_those_left_out_are_counted(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now)
    for _ in range(25):
        exchange_line()
    assert len(lines) == 10
    now = 1001.0
    exchange_line()
    assert lines[-1]["left_out"] == 15
    exchange_line()
    assert "left_out" not in lines[-1]


def exchange_line() -> None:
    """A failed request, without an event loop of its own: that would need the clock."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = cast("Scope", {"type": "http", "method": "GET", "raw_path": b"/v1/x", "headers": []})
    observed = exchange.Exchange(scope, send)
    for message in ({"type": "http.response.start", "status": 503, "headers": []}, {"type": "http.response.body"}):
        cast("Any", observed(cast("Message", message))).close()


def test_at_debug_every_request_is_a_line(lines: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "http")
    ask(Answering(200))
    assert [line["event"] for line in lines] == ["request"]
