"""``python -m services.projector`` runs a worker; with ``migrate`` it brings the schema up, with ``verify`` it compares
the event store, the stream and the projections, with ``parked`` it shows and settles events that cannot be applied."""

import os
import sys
from pathlib import Path

from services.projector.commands import run_parked, run_verify
from services.projector.settings import read_settings
from services.projector.wiring import run
from shared.postgres import migrate
from shared.serving import run as run_process
from shared.settings import Environment, SettingsError
from shared.telemetry import configure_logging

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            return _serve()
        case ["migrate"]:
            return _migrate()
        case ["verify"]:
            return run_verify()
        case ["parked", *rest]:
            return run_parked(rest)
        case _:
            print("usage: python -m services.projector [migrate | verify | parked …]", file=sys.stderr)  # noqa: T201
            return 2


def _serve() -> int:
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    configure_logging("projector", settings.log_level, settings.log_format)
    return run_process(lambda: run(settings))


def _migrate() -> int:
    env = Environment(os.environ)
    dsn = env.url("PROJECTION_DSN", ("postgresql", "postgres"))
    try:
        env.finish()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    configure_logging("projector", "info", env.text("LOG_FORMAT", "auto"))
    return run_process(lambda: migrate(dsn, MIGRATIONS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
