"""``python -m services.query`` serves reads and room streams."""

import sys

from services.query.settings import read_settings
from services.query.wiring import run
from shared.process import serve_process, usage


def main(arguments: list[str]) -> int:
    return usage("python -m services.query") if arguments else serve_process("query", read_settings, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
