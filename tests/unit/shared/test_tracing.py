"""When traces are on, and that nothing of them is there when they are not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.contracts.subjects import sampled_trace_in
from shared.contracts.tracecontext import is_sampled, is_traceparent
from shared.settings import SettingsError
from shared.tracing import is_wanted, start_tracing
from tests.support.servers import REPOSITORY

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_endpoint_switches_traces_on(variables: dict[str, str], wanted: bool) -> None:
    assert is_wanted(variables) is wanted


@pytest.mark.parametrize("service", ["command", "query", "projector"])
def test_without_it_nothing_of_opentelemetry_is_imported(service: str) -> None:
    program = (
        f"import sys, services.{service}.wiring; from shared import tracing;"
        "tracing.start_tracing('test', {}); assert tracing.active() is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize(
    "endpoint", ["foo", "grpc://collector:4317", "http://", "http://h:0", "http://h:x", "http://[::1"]
)
def test_an_endpoint_that_is_none_is_a_fault(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"):
        start_tracing("test", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})


def test_it_is_named_beside_all_others() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.query"],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "foo"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    faults = {"PROJECTION_DSN", "NATS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert {line.split()[0] for line in done.stderr.splitlines()} == faults


def test_without_the_extra_a_service_says_what_is_missing() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from shared.settings import SettingsError; from shared.tracing import start_tracing\n"
        "try: start_tracing('test', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'})\n"
        "except SettingsError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "install the extra `tracing`" in said


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "cc-", 1), True),
        (TRACE.replace("00-", "ff-", 1), False),
        (TRACE.upper(), False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        (f"{TRACE}-more", False),
        ("", False),
    ],
)
def test_a_traceparent_is_what_the_standard_says(value: str, valid: bool) -> None:
    assert is_traceparent(value) is valid


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("0f", True), ("fe", False)]
)
def test_the_last_bit_says_whether_a_trace_is_recorded(flags: str, sampled: bool) -> None:
    traceparent = TRACE[:-2] + flags
    assert is_sampled(traceparent) is sampled
    assert sampled_trace_in(f"NATS/1.0\r\ntraceparent: {traceparent}\r\n\r\n".encode()) == (
        traceparent if sampled else None
    )


@pytest.mark.parametrize(
    "headers", [b"", b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n", b"NATS/1.0\r\ntraceparent: no\r\n\r\n"]
)
def test_headers_without_a_trace_have_none(headers: bytes) -> None:
    assert sampled_trace_in(headers) is None


def test_stored_traces_that_are_none_are_passed_over() -> None:
    program = (
        "import os; from shared.tracing import start_tracing\n"
        "tracer = start_tracing('test', os.environ)\n"
        "tracer.record('work', 'internal', [None, '', '00-0-0-01', 'ff' + '" + TRACE[2:] + "'], 1, {})\n"
        "print(tracer.begin_request(None))"
    )
    variables = {**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)
    assert (ran.stdout.strip(), ran.stderr) == ("None", "")
