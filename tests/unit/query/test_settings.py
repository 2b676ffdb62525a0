import pytest

from services.query.settings import FeedSettings, read_settings
from shared.settings import SettingsError

NEEDED = {"PROJECTION_DSN": "postgresql://u:secret@h/projections", "NATS_URL": "nats://h:4222"}


def test_defaults() -> None:
    settings = read_settings(NEEDED)
    assert (settings.host, settings.port) == ("127.0.0.1", 8002)
    assert settings.feed == FeedSettings()


def test_every_fault_is_reported_and_no_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"PROJECTION_DSN": "mysql://u:secret@h/x", "HEARTBEAT_SECONDS": "16", "RING_EVENTS": "0"})
    message = str(caught.value)
    assert all(name in message for name in ("PROJECTION_DSN", "NATS_URL", "HEARTBEAT_SECONDS", "RING_EVENTS"))
    assert "secret" not in message
