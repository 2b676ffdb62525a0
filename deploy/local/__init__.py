"""Everything Runroom needs on one machine, without Docker, root or system packages.

`postgres` and `nats` run the real servers from their wheels, `process` starts children that can never
outlive us, `stack` puts the services on top, and `python -m deploy.local` is that stack for a terminal.
Nothing in here is imported by the services: they know a server only by its URL.
"""

from deploy.local.nats import EmbeddedNats
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.process import LocalError
from deploy.local.settings import LocalSettings
from deploy.local.stack import LocalStack

__all__ = ["EmbeddedNats", "EmbeddedPostgres", "LocalError", "LocalSettings", "LocalStack"]
