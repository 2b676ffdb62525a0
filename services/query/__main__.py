"""``python -m services.query`` serves reads and room streams."""

import os
import sys

from services.query.settings import read_settings
from services.query.wiring import run
from shared.serving import run as run_process
from shared.settings import SettingsError
from shared.telemetry import configure_logging


def main(arguments: list[str]) -> int:
    if arguments:
        print("usage: python -m services.query", file=sys.stderr)  # noqa: T201
        return 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    configure_logging("query", settings.log_level, settings.log_format)
    return run_process(lambda: run(settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
