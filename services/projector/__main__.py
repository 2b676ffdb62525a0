"""``python -m services.projector`` runs a worker.

With ``migrate`` it brings the schema up, with ``verify`` it compares the event store, the stream and the projections,
with ``parked`` it shows and settles events that cannot be applied, with ``rebuild`` it builds a projection anew.
"""

import sys
from pathlib import Path

from services.projector.commands import run_parked, run_rebuild, run_verify
from services.projector.settings import read_settings
from services.projector.wiring import run
from shared.process import migrate_process, serve_process, usage

MIGRATIONS = Path(__file__).parent / "migrations"


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            return serve_process("projector", read_settings, run)
        case ["migrate"]:
            return migrate_process("projector", "PROJECTION_DSN", MIGRATIONS)
        case ["verify"]:
            return run_verify()
        case ["parked", *rest]:
            return run_parked(rest)
        case ["rebuild", *rest]:
            return run_rebuild(rest)
        case _:
            return usage("python -m services.projector [migrate | verify | parked … | rebuild …]")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
