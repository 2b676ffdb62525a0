"""The projector's settings."""

from services.projector.settings import read_settings

SERVERS = {
    "EVENT_STORE_DSN": "postgresql://u:p@h:1/event_store",
    "PROJECTION_DSN": "postgresql://u:p@h:1/projections",
    "NATS_URL": "nats://h:2",
}


def test_only_a_port_that_was_asked_for_is_insisted_on() -> None:
    assert read_settings(SERVERS).port is None
    assert read_settings(SERVERS | {"PROJECTOR_PORT": " "}).port is None
    assert read_settings(SERVERS | {"PROJECTOR_PORT": "8003"}).port == 8003


def test_defaults() -> None:
    settings = read_settings(SERVERS)
    assert (settings.host, settings.lease_seconds, settings.log_level) == ("127.0.0.1", 2.0, "info")
