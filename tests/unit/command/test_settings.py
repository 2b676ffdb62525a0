"""Every fault of the environment is reported at once, and none quotes a secret."""

import pytest

from services.command.settings import read_settings
from shared.settings import SettingsError

GOOD = {"EVENT_STORE_DSN": "postgresql://u:p@h/d", "NATS_URL": "nats://h:4222"}


def test_defaults() -> None:
    settings = read_settings(GOOD)
    assert (settings.host, settings.port, settings.max_body_bytes) == ("127.0.0.1", 8001, 1024 * 1024)


def test_every_fault_is_named_at_once() -> None:
    faulty = {"EVENT_STORE_DSN": "secret", "COMMAND_PORT": "http", "IDEMPOTENCY_HOURS": "1", "LOG_LEVEL": "loud"}
    with pytest.raises(SettingsError) as raised:
        read_settings(faulty)
    message = str(raised.value)
    for name in ("EVENT_STORE_DSN", "NATS_URL", "COMMAND_PORT", "IDEMPOTENCY_HOURS", "LOG_LEVEL"):
        assert name in message
    assert "secret" not in message
