"""The environment reader."""

import pytest

from shared.settings import Environment, SettingsError


def test_values_in_range_are_read() -> None:
    env = Environment({"A": " 7 ", "B": "0.5", "C": "JSON", "D": "tls://h", "E": ""})
    assert env.integer("A", 1, 0, 10) == 7
    assert env.number("B", 1.0, 0.0, 1.0) == 0.5
    assert env.choice("C", ("json", "console"), "console") == "json"
    assert env.url("D", ("nats", "tls")) == "tls://h"
    assert env.text("E", "default") == "default"
    assert env.port("F", 8001) == 8001
    env.finish()


@pytest.mark.parametrize("text", ["x", "1.5", "-1", "65536", "1e3", "nan", "٣x"])
def test_a_port_is_a_number_in_range(text: str) -> None:
    env = Environment({"PORT": text})
    assert env.port("PORT", 8001) == 8001
    with pytest.raises(SettingsError, match="PORT"):
        env.finish()


@pytest.mark.parametrize("text", ["nan", "inf", "1.01"])
def test_a_number_is_finite_and_in_range(text: str) -> None:
    env = Environment({"N": text})
    env.number("N", 1.0, 0.0, 1.0)
    with pytest.raises(SettingsError):
        env.finish()
