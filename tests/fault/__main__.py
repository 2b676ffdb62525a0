"""``python -m tests.fault``: every fault once, then up to three at a time at random, and the figures of it all.

``--seed`` repeats a campaign; ``--rounds`` is how many combinations are drawn at random, where any are; ``--only`` and
``--stage`` name single faults and deployments.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.telemetry import configure_logging
from tests.fault.campaign import Report, run_campaign
from tests.fault.disks import NoSmallDiskError
from tests.fault.faults import FAULTS, STAGES, draw

RESULTS = Path(__file__).parents[2] / "bench" / "results"
console = Console()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description="Faults under load, and the accounts.")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--rounds", type=int, default=20, help="random combinations after each fault was injected once")
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="this fault only; may be repeated")
    parser.add_argument(
        "--stage", action="append", choices=sorted(STAGES), help="this deployment only; may be repeated"
    )
    arguments = parser.parse_args()
    configure_logging("fault", "error", "auto")
    rng = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="runroom-fault-"))
    reports: list[Report] = []
    for name, stage in STAGES.items():
        faults = [(fault,) for fault in stage.each if fault in (arguments.only or FAULTS)]
        if stage.combined and not arguments.only:
            faults += [draw(rng, stage.combined) for _ in range(arguments.rounds)]
        if not faults or name not in (arguments.stage or STAGES):
            continue
        console.print(f"[bold]{name}[/bold]: seed {arguments.seed}, {sum(map(len, faults))} faults")
        place = folder / name.replace(" ", "-")
        place.mkdir()
        try:
            report = asyncio.run(
                run_campaign(place, stage, faults, arguments.seed, lambda line: console.print(f"  {line}"))
            )
        except NoSmallDiskError as error:
            console.print(f"  cannot be staged here: {error}", style="yellow")
            continue
        _show(report)
        reports.append(report)
    _write(arguments.seed, reports)
    if not all(report.is_well for report in reports):
        console.print(f"The logs are in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def _show(report: Report) -> None:
    table = Table(title=f"{report.stage}, seed {report.seed}")
    table.add_column("fault")
    for name in ("times", "lasted s", "then seen after s", "then readable after s"):
        table.add_column(name, justify="right")
    for fault in dict.fromkeys(injected.fault for injected in report.injected):
        same = [injected for injected in report.injected if injected.fault == fault]
        worst = [
            max(getattr(injected, name) for injected in same)
            for name in ("lasted_seconds", "seen_seconds", "readable_seconds")
        ]
        table.add_row(fault, str(len(same)), *(f"{seconds:.2f}" for seconds in worst))
    console.print(table)
    accounts = report.accounts
    again = ", ".join(f"{count} for {why}" for why, count in sorted(report.asked_again.items()))
    console.print(
        f"{accounts.acknowledged} commands acknowledged, {sum(report.asked_again.values())} sent again ({again});"
        f" {accounts.shown} events shown to viewers, who reconnected {report.reconnects} times;"
        f" everything everywhere {report.settled_seconds:.2f} s after the last command"
    )
    console.print(
        f"lost {accounts.lost}, repeated {accounts.repeated}, reordered {accounts.reordered},"
        f" wrong rows {accounts.wrong_rows}, resets {accounts.resets}",
        style="green" if accounts.balanced else "red",
    )
    console.print(f"verify says that {'all is well' if report.verified else 'something is wrong'}")
    for note in accounts.notes[:20]:
        console.print(f"  {note}")


def _write(seed: int, reports: list[Report]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    result = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "seed": seed,
        "stages": [report.as_dict() for report in reports],
    }
    (RESULTS / f"fault-{now:%Y-%m-%d}-{seed}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
