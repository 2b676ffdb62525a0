"""``python -m bench report [file]``: recorded results as docs/performance.md shows them.

Writes what is between the markers there, and the plots beside it. Without a file: the newest run of every scenario.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.harness import medians, number, show
from bench.scenarios import SCENARIOS
from deploy.local.service import ROOT

_PAGE = ROOT / "docs" / "performance.md"
_PLOTS = ROOT / "docs" / "performance"
_PYTHON = ROOT / ".bench" / "plots" / "bin" / "python"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


def report(results: Path, file: Path | None) -> str:
    """Writes page and plots; one sentence on it. Raises ``ValueError`` where there is nothing to report."""
    source = file or _newest(results)
    if not _PYTHON.exists():
        raise ValueError("the plots need matplotlib, which `make bench-report` puts into .bench/plots")
    subprocess.run([_PYTHON, "-I", ROOT / "bench" / "plots.py", source.absolute(), _PLOTS], check=True)
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"{_PAGE.name} has no place for results: {_BEGIN} … {_END}")
    shown = "\n".join(_lines(source.name, json.loads(source.read_text())))
    _PAGE.write_text(f"{before}{_BEGIN}\n\n{shown}\n\n{_END}{after}")
    return f"{_PAGE.relative_to(ROOT)} shows {source.name}"


def _newest(results: Path) -> Path:
    for path in sorted(results.glob("bench-*.json"), reverse=True):
        if {scenario["scenario"] for scenario in json.loads(path.read_text())["scenarios"]} >= SCENARIOS.keys():
            return path
    raise ValueError(f"{results.name}/ has no run of every scenario: run `make bench`, or name a file")


def _lines(name: str, written: dict[str, Any]) -> list[str]:
    machine = written["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in written["versions"].items())
    lines = [
        f"Measured {written['at'][:10]} on {machine['cpus']} cores, {machine['system']}, Python {machine['python']};"
        f" {versions}. All figures: [{name}](../bench/results/{name}).",
        "",
        "| # | scenario | of | figure | measured | to reach | |",
        "|---|---|---|---|---:|---:|---|",
    ]
    for scenario in written["scenarios"]:
        lines += [_target(scenario, target) for target in scenario["targets"]]
    lines += ["", "![Throughput](performance/throughput.svg)", "", "![Latency](performance/latency.svg)", ""]
    lines += ["![Fan-out](performance/fan-out.svg)", "", "| # | who | medians of the rounds |", "|---|---|---|"]
    for scenario in written["scenarios"]:
        for contestant, rounds in scenario["rounds"].items():
            lines.append(f"| {scenario['scenario']} | {contestant} | {_figures(medians(rounds))} |")
        lines += [f"| {scenario['scenario']} | {who} | {why} |" for who, why in scenario["absent"].items()]
    return lines


def _target(scenario: dict[str, Any], target: dict[str, Any]) -> str:
    times = f" of {target['against']}" if target["against"] else ""
    measured = "not measured" if target["measured"] is None else f"{number(target['measured'])}{times}"
    sign = "≥" if target["bound"] == "at least" else "≤"
    met = {True: "met", False: "**missed**", None: ""}[target["met"]]
    return (
        f"| {scenario['scenario']} | {scenario['title']} | {target['of']} | {target['figure']} | {measured}"
        f" | {sign} {number(target['value'])} | {met} |"
    )


def _figures(figures: dict[str, float]) -> str:
    shown = show(figures)
    if not shown.endswith("…"):
        return shown
    # Parts of the whole, such as one kind of request of many: the slowest says enough.
    parts = {name: value for name, value in figures.items() if "ms " in name}
    if not parts:
        return ", ".join(f"{number(value)} {name}" for name, value in figures.items())
    slowest = max(parts, key=lambda name: parts[name])
    whole = {name: value for name, value in figures.items() if name not in parts}
    return f"{show(whole)}; the most of {len(parts)}: {number(parts[slowest])} {slowest}"


def main(results: Path, arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: python -m bench report [file]", file=sys.stderr)
        return 2
    try:
        print(report(results, Path(arguments[0]) if arguments else None))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
