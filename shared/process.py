"""A service as a process: what its ``__main__`` does with the command line and the environment.

Invariant: a process that cannot do what it was started for says so in plain sentences on standard error and ends with
a status that is not 0.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from shared.metrics import set_build_info
from shared.postgres import STORE_ERRORS, MigrationError, migrate, read_dsn
from shared.serving import ServiceError, run
from shared.settings import Environment, SettingsError
from shared.telemetry import configure_logging
from shared.tracing import start_tracing, tracing_faults


class LogSettings(Protocol):
    """What every service's settings have."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...


S = TypeVar("S", bound=LogSettings)


def serve_process(
    service: str,
    read_settings: Callable[[Mapping[str, str]], S],
    serve: Callable[[S], Coroutine[Any, Any, None]],
) -> int:
    """Serves until told to stop; the exit status."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        return _refuse(error, *tracing_faults(os.environ))
    try:
        tracer = start_tracing(service, os.environ)
    except SettingsError as error:
        return _refuse(error)
    configure_logging(service, settings.log_level, settings.log_format)
    set_build_info(service)
    try:
        return run(lambda: serve(settings))
    finally:
        if tracer is not None:
            tracer.stop()


def migrate_process(service: str, dsn_variable: str, migrations: Path) -> int:
    """Brings the database that the variable names up to date; the exit status."""
    env = Environment(os.environ)
    dsn = read_dsn(env, dsn_variable)
    try:
        env.finish()
    except SettingsError as error:
        return _refuse(error)
    configure_logging(service, "info", env.text("LOG_FORMAT", "auto"))
    return run(lambda: _migrate(dsn, migrations))


async def _migrate(dsn: str, migrations: Path) -> None:
    try:
        await migrate(dsn, migrations)
    except MigrationError as error:
        raise ServiceError(f"not migrated: {error}") from error
    except STORE_ERRORS as error:
        raise ServiceError(f"not migrated: {type(error).__name__}: {error}") from error


def usage(text: str) -> int:
    """Says how the program is used; the exit status for those who did not know."""
    print(f"usage: {text}", file=sys.stderr)  # noqa: T201
    return 2


def _refuse(*faults: SettingsError | str) -> int:
    print(*faults, sep="\n", file=sys.stderr)  # noqa: T201
    return 1
