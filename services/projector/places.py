"""Where a deployment's databases and stream are, for commands that look at all of them."""

from typing import NamedTuple

from shared.messaging.access import NatsAccess


class Places(NamedTuple):
    event_store_dsn: str
    projection_dsn: str
    nats_url: str
    nats_access: NatsAccess
