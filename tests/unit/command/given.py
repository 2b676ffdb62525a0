"""Given/when/then for decisions: a clock that stands still and ids that count."""

from itertools import count

from services.command.domain.commands import Command, CreateRun
from services.command.domain.decide import Caller, Position, Refusal, decide
from services.command.domain.run import RunState, evolve
from shared.contracts.events import Event

CALLER = Caller("ws", "agent", "a1")
TIME = "2026-01-01T00:00:00.000000Z"


class CountingIds:
    def __init__(self) -> None:
        self._numbers = count(1)

    def run_id(self) -> str:
        return f"run_{next(self._numbers)}"

    def step_id(self) -> str:
        return f"step_{next(self._numbers)}"

    def event_id(self) -> str:
        return f"event_{next(self._numbers)}"

    def correlation_id(self) -> str:
        return f"correlation_{next(self._numbers)}"


class Story:
    """A run told as commands: each is decided on what the ones before it left."""

    def __init__(self) -> None:
        self.ids = CountingIds()
        self.state: RunState | None = None
        self.events: list[Event] = []

    def when(self, command: Command) -> Event | Refusal:
        state = None if isinstance(command, CreateRun) else self.state
        outcome = decide(state, command, CALLER, Position(len(self.events) + 1, TIME, TIME), self.ids)
        if not isinstance(outcome, Refusal):
            self.state = evolve(state, outcome)
            self.events.append(outcome)
        return outcome
