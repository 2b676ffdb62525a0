"""Scenarios, the contestants in them, and rounds in which the contestants take turns.

Invariant: what is compared was measured in one run on one machine, turn by turn, so that a machine that slows down
slows everybody down. Ratios are taken within a round; medians are taken over rounds.
"""

import statistics
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

Figures = dict[str, float]
"""Figures by name; the name says the unit, such as ``commands/s`` or ``p99 ms``."""

Measure = Callable[[float], Awaitable[Figures]]
"""One turn of so many seconds, or of as much work as fits a scenario that counts work. Raises for a wrong result."""

_MOST_SHOWN = 6

Role = Literal["runroom", "floor", "peer"]


class Contestant(NamedTuple):
    """Somebody who takes turns. Without ``measure`` it is absent, and ``why`` says why."""

    name: str
    role: Role
    measure: Measure | None
    why: str = ""


class Target(NamedTuple):
    """A bound on a figure of a contestant: by itself, or (``against``) as a ratio to the same figure of another.

    ``other`` names the other contestant's figure where it is not the same one.
    """

    figure: str
    of: str
    bound: Literal["at least", "at most"]
    value: float
    against: str = ""
    other: str = ""


class Setting(NamedTuple):
    """Where and how long a scenario runs. ``size`` scales the work of scenarios that count work: 1.0 is all of it."""

    folder: Path
    seconds: float
    rounds: int
    size: float


class Scenario(NamedTuple):
    """``seconds`` is how long a turn takes in a full run. Without ``warm_up`` the first turn counts: turns are work
    that a short one would not shorten.
    """

    name: str
    title: str
    open: Callable[[Setting], AbstractAsyncContextManager[list[Contestant]]]
    targets: tuple[Target, ...]
    seconds: float = 6.0
    rounds: int = 5
    warm_up: bool = True


class Outcome(NamedTuple):
    """What came of a target. ``ratio`` is the figure itself where nobody is compared with, None when not measured."""

    target: Target
    ratio: float | None
    met: bool | None


class Result(NamedTuple):
    scenario: Scenario
    figures: dict[str, list[Figures]]
    """Contestant → figures of each round."""
    absent: dict[str, str]
    outcomes: list[Outcome]

    def as_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "rounds": self.figures,
            "absent": self.absent,
            "targets": [
                {**outcome.target._asdict(), "measured": outcome.ratio, "met": outcome.met} for outcome in self.outcomes
            ],
        }


Tell = Callable[[str], None]


async def run_scenario(scenario: Scenario, setting: Setting, tell: Tell) -> Result:
    """Opens the scenario, warms each contestant up with a short turn if it is to, then lets them take turns."""
    figures: dict[str, list[Figures]] = {}
    absent: dict[str, str] = {}
    async with scenario.open(setting) as contestants:
        present = [(contestant.name, contestant.measure) for contestant in contestants if contestant.measure]
        absent = {contestant.name: contestant.why for contestant in contestants if not contestant.measure}
        for _, measure in present if scenario.warm_up and setting.rounds > 1 else ():
            await measure(min(setting.seconds, 1.0))
        for number in range(setting.rounds):
            # The order turns too: whoever comes after a busy contestant finds other caches.
            for name, measure in present[number % len(present) :] + present[: number % len(present)]:
                measured = await measure(setting.seconds)
                figures.setdefault(name, []).append(measured)
                tell(f"{scenario.name} round {number + 1}  {name}: {show(measured)}")
    return Result(scenario, figures, absent, [_settle(target, figures) for target in scenario.targets])


def show(figures: Figures) -> str:
    """The first of them, on one line."""
    shown = [f"{number(value)} {name}" for name, value in figures.items()]
    return ", ".join([*shown[:_MOST_SHOWN], *["…"] * (len(shown) > _MOST_SHOWN)])


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def _settle(target: Target, figures: dict[str, list[Figures]]) -> Outcome:
    ours = figures.get(target.of, [])
    if target.against:
        theirs = figures.get(target.against, [])
        other = target.other or target.figure
        ratios = [a[target.figure] / b[other] for a, b in zip(ours, theirs, strict=False) if b[other]]
    else:
        ratios = [a[target.figure] for a in ours]
    if not ratios:
        return Outcome(target, None, None)
    ratio = statistics.median(ratios)
    return Outcome(target, ratio, ratio >= target.value if target.bound == "at least" else ratio <= target.value)
