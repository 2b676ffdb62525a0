"""``python bench/plots.py results.json folder``: the plots of docs/performance.md, an SVG for each family.

Runs by itself in an environment of its own, where matplotlib is. The same results give the same bytes.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # pyright: ignore[reportMissingImports]
from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]

_COLOURS = {"runroom": "#1f77b4", "other": "#9aa5b1"}
_RATES = ("commands/s", "reads/s", "events/s", "rows/s")
_FAN_OUT = ("ms to first", "ms to last", "p50 ms to last", "p99 ms to last")
Row = tuple[str, list[float], bool]


def main(results: Path, folder: Path) -> int:
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "runroom", "svg.fonttype": "none", "font.size": 9, "axes.spines.right": False})
    scenarios = json.loads(results.read_text())["scenarios"]
    folder.mkdir(parents=True, exist_ok=True)
    _bars(folder / "throughput.svg", "Throughput, per second", _rows(scenarios, _RATES))
    _spans(folder / "latency.svg", "Latency, p50 to p99, ms", scenarios)
    _bars(
        folder / "fan-out.svg",
        "One event to the clients of a room, ms",
        sorted(_rows(scenarios, _FAN_OUT), key=_variant),
    )
    return 0


def _rows(scenarios: list[dict[str, Any]], names: tuple[str, ...]) -> list[Row]:
    """A label, the figure of each round, and whether it is Runroom's."""
    return [
        (f"{scenario['scenario']}  {contestant}  {name}", [figures[name] for figures in rounds], _is_ours(contestant))
        for scenario in scenarios
        for contestant, rounds in scenario["rounds"].items()
        for name in names
        if name in rounds[0]
    ]


def _is_ours(contestant: str) -> bool:
    return contestant.startswith("Runroom")


def _variant(row: Row) -> str:
    """What is to be compared stands together."""
    return row[0].partition(", ")[2]


def _bars(path: Path, title: str, rows: list[Row]) -> None:
    """The median of each as a bar, the spread of the rounds as a line on it."""
    if not rows:
        return
    axes = _axes(title, [label for label, _, _ in rows])
    for at, (_, rounds, is_ours) in enumerate(rows):
        middle = statistics.median(rounds)
        spread = [[middle - min(rounds)], [max(rounds) - middle]]
        axes.barh(at, middle, xerr=spread, color=_COLOURS["runroom" if is_ours else "other"], ecolor="#444444")
        axes.annotate(_number(middle), (max(rounds), at), xytext=(4, 0), textcoords="offset points", va="center")
    _save(path)


def _spans(path: Path, title: str, scenarios: list[dict[str, Any]]) -> None:
    """From the median of each contestant's p50 to that of its p99."""
    p50, p99 = _rows(scenarios, ("p50 ms", "live p50 ms")), _rows(scenarios, ("p99 ms", "live p99 ms"))
    if not p50:
        return
    axes = _axes(title, [label.removesuffix("p50 ms") for label, _, _ in p50])
    for at, ((_, low, is_ours), (_, high, _)) in enumerate(zip(p50, p99, strict=True)):
        ends = [statistics.median(low), statistics.median(high)]
        axes.plot(ends, [at, at], color=_COLOURS["runroom" if is_ours else "other"], linewidth=4, marker="|")
        axes.annotate(_number(ends[1]), (ends[1], at), xytext=(6, 0), textcoords="offset points", va="center")
    _save(path)


def _axes(title: str, labels: list[str]) -> Any:
    _, axes = plt.subplots(figsize=(9, 0.8 + 0.27 * len(labels)))
    axes.set_title(title, loc="left")
    axes.set_xscale("log")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.12)
    return axes


def _save(path: Path) -> None:
    plt.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close()
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
