"""A local stack that is looked at from outside: its metrics by name, and its log lines."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.settings import LocalSettings
from deploy.local.stack import LocalStack

DEADLINE = 20.0


class Series:
    """What a service said of its metrics at one moment."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.labels: dict[str, set[frozenset[str]]] = {}
        self._values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            self.types[name] = family.type
            for sample in family.samples:
                self.labels.setdefault(sample.name, set()).add(frozenset(sample.labels))
                self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def value(self, name: str, **labels: str) -> float:
        """The sum over all series that have these labels; 0 without any."""
        return sum(value for given, value in self._values.get(name, []) if labels.items() <= given.items())


class Watched:
    """A stack, with a client for each of its services."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.command = httpx.Client(base_url=stack.command_url, timeout=DEADLINE, trust_env=False)
        self.query = httpx.Client(base_url=stack.query_url, timeout=DEADLINE, trust_env=False)
        self.projector = httpx.Client(base_url=stack.projectors[0].url, timeout=DEADLINE, trust_env=False)

    @property
    def clients(self) -> dict[str, httpx.Client]:
        return {"command": self.command, "query": self.query, "projector": self.projector}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    def create(self, room: str, **body: Any) -> dict[str, Any]:
        answer = self.command.post("/v1/runs", json={"room_id": room, **body})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def lines(self, service: str, event: str) -> list[dict[str, Any]]:
        """The service's log lines about this event."""
        logged = (self.stack.data_dir / "logs" / f"{service}.log").read_text().splitlines()
        return [line for line in map(json.loads, logged) if line["event"] == event]

    def line(self, service: str, event: str, **named: str) -> dict[str, Any]:
        """The one line about this event with these values, once it is in the log."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines(service, event) if named.items() <= line.items()]

        eventually(lambda: bool(found()))
        (line,) = found()
        return line

    @contextmanager
    def following(self, room: str, **headers: str) -> Iterator[Follower]:
        """A stream of the room from its end on, once it is caught up."""
        with self.query.stream("GET", f"/v1/streams/rooms/{room}?from_seq=latest", headers=headers) as response:
            follower = Follower(response)
            follower.until("event: caught-up")
            follower.until("data: ")
            yield follower


class Follower:
    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self._lines = response.iter_lines()

    def until(self, beginning: str) -> str:
        return next(line for line in self._lines if line.startswith(beginning))


def metrics_of(client: httpx.Client) -> Series:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return Series(answer.text)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def watched_stack(data_dir: Path) -> Iterator[Watched]:
    stack = LocalStack(LocalSettings(data_dir=data_dir))
    stack.start()
    watched = Watched(stack)
    try:
        yield watched
    finally:
        watched.close()
        stack.stop()


def documented(page: str) -> dict[str, tuple[str, str, frozenset[str]]]:
    """The metrics of ``docs/metrics.md``: service, type and labels by name."""
    found: dict[str, tuple[str, str, frozenset[str]]] = {}
    owner = ""
    for line in page.splitlines():
        if line.startswith("## "):
            owner = line[3:].lower()
        elif row := re.match(r"\| `([a-z_]+)` \| (\w+) \| ([^|]*) \|", line):
            found[row[1]] = (owner, row[2], frozenset(re.findall(r"`(\w+)`", row[3])))
    return found
