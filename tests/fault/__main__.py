"""``python -m tests.fault``: every fault once, then up to three at a time at random, and the figures of it all.

``--seed`` repeats a campaign; ``--rounds`` is how many faults are drawn at random; ``--only`` names single faults.
"""

import argparse
import asyncio
import json
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

from tests.fault.campaign import Report, run_campaign
from tests.fault.faults import FAULTS, draw

RESULTS = Path(__file__).parents[2] / "bench" / "results"
console = Console()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description="Faults under load, and the accounts.")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--rounds", type=int, default=20, help="random combinations after each fault was injected once")
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="this fault only; may be repeated")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    each = arguments.only or FAULTS
    rounds = 0 if arguments.only else arguments.rounds
    faults = [(name,) for name in each] + [draw(rng) for _ in range(rounds)]
    console.print(f"seed {arguments.seed}, {sum(map(len, faults))} faults")
    folder = Path(tempfile.mkdtemp(prefix="runroom-fault-"))
    report = asyncio.run(run_campaign(folder, faults, arguments.seed, lambda line: console.print(f"  {line}")))
    _show(report)
    _write(report)
    if not (report.accounts.balanced and report.verified):
        console.print(f"The logs are in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def _show(report: Report) -> None:
    table = Table(title=f"Campaign of seed {report.seed}")
    table.add_column("fault")
    for name in ("times", "recovered, median s", "recovered, most s"):
        table.add_column(name, justify="right")
    for fault in dict.fromkeys(injected.fault for injected in report.injected):
        times = sorted(injected.recovered_seconds for injected in report.injected if injected.fault == fault)
        table.add_row(fault, str(len(times)), f"{times[len(times) // 2]:.2f}", f"{times[-1]:.2f}")
    console.print(table)
    accounts = report.accounts
    console.print(
        f"{accounts.acknowledged} commands acknowledged, {sum(report.asked_again.values())} sent again;"
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


def _write(report: Report) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    result = {"at": now.isoformat(timespec="seconds"), "python": platform.python_version(), **report.as_dict()}
    (RESULTS / f"fault-{now:%Y-%m-%d}-{report.seed}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
