"""Logs: structured, and free of payloads even when something crashes."""

import json
import subprocess
import sys

import pytest

from shared import telemetry
from shared.telemetry import LineBudget

CRASH = """
import structlog
from shared.telemetry import configure_logging

configure_logging("test", "info", {log_format!r})
def fail(payload):
    raise ValueError("went wrong")
try:
    fail("a secret")
except ValueError as error:
    structlog.get_logger("test").error("crashed", exc_info=error, room_id="r")
"""


def crash(log_format: str) -> str:
    program = CRASH.format(log_format=log_format)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("log_format", ["json", "console", "auto"])
def test_a_traceback_names_the_place_and_no_values(log_format: str) -> None:
    line = crash(log_format)
    assert "went wrong" in line
    assert "fail" in line
    assert "a secret" not in line.replace('fail("a secret")', "")


def test_off_a_terminal_a_line_is_one_json_object() -> None:
    record = json.loads(crash("auto"))
    assert (record["event"], record["service"], record["level"], record["room_id"]) == ("crashed", "test", "error", "r")


def test_on_a_terminal_a_value_is_not_obeyed() -> None:
    program = (
        "import structlog; from shared.telemetry import configure_logging; "
        "configure_logging('test', 'info', 'console');"
        "structlog.get_logger('test').info('seen', room_id='\\x1b]0;owned\\x07\\x9b2J')"
    )
    line = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert "\x07" not in line
    assert "\\x1b]0;owned\\x07\\x9b2J" in line


def test_lines_are_counted_for_as_long_as_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now)
    lines = LineBudget(1, 60)
    assert [lines.take() for _ in range(3)] == [0, None, None]
    now = 659.0
    assert lines.take() is None
    now = 660.0
    assert [lines.take() for _ in range(2)] == [3, None]
