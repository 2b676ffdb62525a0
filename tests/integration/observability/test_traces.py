"""One trace from the command to the streams, for those that are sampled; and nothing for the others."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.integration.observability.collector import Collector, Span, running_collector
from tests.integration.observability.stack import Watched, eventually, watched_stack

PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Watched]:
    """A stack whose traces are recorded where the caller says so, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOG_FORMAT", "json")
        patch.setenv("LOG_LEVEL", "debug")
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        with watched_stack(tmp_path_factory.mktemp("traced")) as watched:
            yield watched


MADE: set[str] = set()


def new_trace() -> str:
    MADE.add(trace_id := uuid4().hex)
    return trace_id


def traceparent(trace_id: str, *, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT}-{int(sampled):02x}"}


def create(watched: Watched, room: str, headers: dict[str, str]) -> httpx.Response:
    answer = watched.command.post("/v1/runs", json={"room_id": room}, headers=headers)
    assert answer.status_code == 201
    return answer


def of(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def test_a_trace_goes_from_the_command_to_the_stream(traced: Watched, collector: Collector) -> None:
    trace_id = new_trace()
    with traced.following("traced") as follower:
        answer = create(traced, "traced", traceparent(trace_id))
        follower.until("data: {")
    expected = {
        ("runroom-command", "POST /v1/runs"),
        ("runroom-command", "commit"),
        ("runroom-command", "publish"),
        ("runroom-projector", "apply"),
        ("runroom-query", "deliver"),
    }
    eventually(lambda: {(span.service, span.name) for span in collector.spans(trace_id)} >= expected)
    eventually(lambda: len(of(collector.spans(trace_id), "apply")) == 2)
    spans = collector.spans(trace_id)
    assert {(span.service, span.name) for span in spans} == expected
    assert len(spans) == 6
    assert {span.attributes["runroom.projection"] for span in of(spans, "apply")} == {"runs", "room_feed"}
    (request,) = of(spans, "POST /v1/runs")
    assert request.parent_id == PARENT
    assert {span.parent_id for span in spans if span is not request} == {request.span_id}
    assert (request.attributes["http.response.status_code"], request.attributes["http.route"]) == (201, "/v1/runs")
    line = traced.line("command", "request", trace_id=trace_id)
    assert line["span_id"] == request.span_id
    assert line["correlation_id"] == answer.json()["correlation_id"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert collector.paths == {"/v1/traces"}


def test_a_batch_is_part_of_one_trace_and_linked_to_the_others(traced: Watched, collector: Collector) -> None:
    """Events that were committed while NATS was away go to it in one publish."""
    server = traced.stack.nats
    assert server is not None
    traces = [new_trace() for _ in range(3)]
    server.stop()
    for number, trace_id in enumerate(traces):
        create(traced, f"linked-{number}", traceparent(trace_id))
    server.start()

    def joined(name: str) -> bool:
        spans = [span for trace_id in traces for span in of(collector.spans(trace_id), name)]
        return any({span.trace_id, *span.links} == set(traces) for span in spans)

    eventually(lambda: joined("publish"))

    def applied() -> set[str]:
        spans = [{span.trace_id, *span.links} for span in of(collector.all_spans(), "apply")]
        return set(traces) & {trace for some in spans for trace in some}

    eventually(lambda: applied() == set(traces))


def test_what_the_caller_does_not_record_is_not_recorded(traced: Watched, collector: Collector) -> None:
    unsampled, sampled = new_trace(), new_trace()
    with traced.following("quiet") as follower:
        create(traced, "quiet", traceparent(unsampled, sampled=False))
        create(traced, "quiet", {})
        for _ in range(2):
            follower.until("data: {")
        create(traced, "quiet", traceparent(sampled))
        follower.until("data: {")
    eventually(
        lambda: len(of(collector.spans(sampled), "apply")) == 2 and bool(of(collector.spans(sampled), "deliver"))
    )
    assert collector.spans(unsampled) == []
    assert {span.trace_id for span in collector.all_spans()} <= MADE


def test_reads_and_streams_have_spans_of_their_own(traced: Watched, collector: Collector) -> None:
    read, stream = new_trace(), new_trace()
    assert traced.query.get("/v1/runs/run_none", headers=traceparent(read)).status_code == 404
    with traced.following("spans", **traceparent(stream)) as follower:
        # The stream goes on, and its span ends once it has begun.
        eventually(lambda: bool(collector.spans(read)) and bool(collector.spans(stream)))
        assert follower.headers["x-request-id"]
    (span,) = collector.spans(read)
    assert (span.name, span.attributes["http.response.status_code"], span.is_error) == (
        "GET /v1/runs/{run_id}",
        404,
        False,
    )
    (span,) = collector.spans(stream)
    assert span.name == "GET /v1/streams/rooms/{room_id}"


def test_a_collector_that_is_away_costs_no_request(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_collector() as gone:
        url = gone.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    with watched_stack(tmp_path_factory.mktemp("alone")) as watched:
        for _ in range(20):
            watched.create("alone")
        services = list(watched.stack.services)
        watched.stack.stop()
        assert all(service.pid is None for service in services)
