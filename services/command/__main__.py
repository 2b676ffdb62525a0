"""``python -m services.command`` serves; ``python -m services.command migrate`` brings the event store's schema up."""

import sys
from pathlib import Path

from services.command.settings import read_settings
from services.command.wiring import run
from shared.process import migrate_process, serve_process, usage

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            return serve_process("command", read_settings, run)
        case ["migrate"]:
            return migrate_process("command", "EVENT_STORE_DSN", MIGRATIONS)
        case _:
            return usage("python -m services.command [migrate]")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
