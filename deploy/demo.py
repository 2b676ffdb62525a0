"""`python -m deploy.demo`: an agent works, and you watch its room, against a stack that is already running.

Uses the public HTTP API alone, so it is also an example of both sides: `Agent` posts commands, `Watcher` follows the
room's stream. Everything printed about the run comes from the stream, not from what the agent knows.
COMMAND_URL and QUERY_URL (or COMMAND_PORT and QUERY_PORT) say where the services are, and else `make up`, if it runs on
DATA_DIR; TOKEN says who asks, where they ask.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import aconnect_sse
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.local.process import LocalError
from deploy.local.stack import read_stack_file

JSON = dict[str, Any]

_THINKING_S = 0.9  # between two commands, so that a person can follow
_PATIENCE_S = 30.0  # for the whole run to be told
_COLOURS = {"created": "cyan", "started": "yellow", "completed": "green", "failed": "red"}

TITLE = "Why did checkout slow down at noon?"
STEPS: tuple[tuple[str, str, JSON], ...] = (
    ("tool", "Search the logs around 12:00", {"query": "service:checkout level:error"}),
    ("tool", "Compare p99 before and after the deploy", {"metric": "http_p99", "window": "1h"}),
    ("model", "Write the answer", {"max_words": 80}),
)
SUMMARY = "A deploy at 11:58 dropped an index; restoring it brought p99 from 2.1 s back to 90 ms."


class DemoError(Exception):
    """The demo cannot go on; the message is one plain sentence."""


class Agent:
    """The side that does the work: one POST per thing that happens."""

    def __init__(self, client: httpx.AsyncClient, room_id: str) -> None:
        self._client = client
        self._room_id = room_id
        self.run_id = ""
        self.sent_at = 0.0
        """When the last command was sent, on the clock of `time.perf_counter`."""
        self.last_seq = 0

    async def create(self) -> None:
        answer = await self._post("/v1/runs", {"room_id": self._room_id, "title": TITLE, "tags": ["demo"]})
        self.run_id = answer["run_id"]

    async def start(self) -> None:
        await self._post(f"/v1/runs/{self.run_id}/start", {})

    async def step(self, kind: str, title: str, given: JSON) -> None:
        await self._post(f"/v1/runs/{self.run_id}/steps", {"kind": kind, "title": title, "input": given})

    async def complete(self) -> None:
        output = {"cause": "missing index", "fixed": True}
        await self._post(f"/v1/runs/{self.run_id}/complete", {"summary": SUMMARY, "output": output})

    async def _post(self, path: str, body: JSON) -> JSON:
        self.sent_at = time.perf_counter()
        # The key makes a repeated request harmless: the first outcome is answered again.
        response = await self._client.post(path, json=body, headers={"Idempotency-Key": secrets.token_hex(8)})
        answer = _body_of(response)
        self.last_seq = answer["stream_seq"]
        return answer


class Watcher:
    """The side that looks on: every event of the room once, in order, from any position."""

    def __init__(self, client: httpx.AsyncClient, room_id: str) -> None:
        self._client = client
        self._path = f"/v1/streams/rooms/{room_id}"

    async def events(self, *, after: int = 0) -> AsyncIterator[JSON | None]:
        """The room's envelopes with a higher `stream_seq` than `after`; None once history is over and live begins."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        async with aconnect_sse(self._client, "GET", self._path, headers=headers) as source:
            if source.response.status_code != httpx.codes.OK:
                await source.response.aread()
                _body_of(source.response)
            async for frame in source.aiter_sse():
                if frame.event == "message" and frame.data:  # httpx-sse reports a bare `retry:` as a frame too
                    yield frame.json()
                elif frame.event == "caught-up":
                    yield None


async def main(console: Console, environment: Mapping[str, str]) -> None:
    """Play the whole story. Raises `DemoError`, or `httpx.HTTPError` when a service is not there."""
    command_url, query_url = addresses(environment)
    room_id = f"demo-{secrets.token_hex(3)}"
    token = environment.get("TOKEN")
    who = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx.AsyncClient(base_url=command_url, headers=who, timeout=10, trust_env=False) as commands,
        httpx.AsyncClient(base_url=query_url, headers=who, timeout=10, trust_env=False) as reads,
    ):
        for service in (commands, reads):
            _body_of(await service.get("/readyz"))
        about = (
            f"An agent works in room [bold]{room_id}[/].\n"
            f"It posts commands to   {command_url}\n"
            f"You watch its room at  {query_url}/v1/streams/rooms/{room_id}\n"
            "[dim]ms: from sending the command to seeing its event in the room[/]"
        )
        console.print(Panel(about, title="Runroom", border_style="blue", expand=False))
        agent, watcher = Agent(commands, room_id), Watcher(reads, room_id)
        seen = await _watch_a_run(console, agent, watcher)
        await _join_late(console, watcher, seen)
        await _read_the_run(console, reads, agent)


def addresses(environment: Mapping[str, str]) -> tuple[str, str]:
    """Of the command and the query service: as the environment says, or the running local stack, or by default."""
    try:
        stack = read_stack_file(Path(environment.get("DATA_DIR") or ".data").expanduser())
    except LocalError:
        stack = {}

    def address(service: str, default: int) -> str:
        url, port = environment.get(f"{service}_URL"), environment.get(f"{service}_PORT")
        if url or port:
            return url or f"http://127.0.0.1:{port}"
        return stack.get(f"{service}_URL", f"http://127.0.0.1:{default}")

    return address("COMMAND", 8001), address("QUERY", 8002)


async def _watch_a_run(console: Console, agent: Agent, watcher: Watcher) -> int:
    """Tell the stream's events as they come while the agent works; how many there were."""
    connected = asyncio.Event()
    with console.status("[dim]the agent is working[/]"):
        watching = asyncio.create_task(_watch(console, agent, watcher, connected))
        working = asyncio.create_task(_work(agent, connected))
        done, pending = await asyncio.wait(
            {watching, working}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_EXCEPTION
        )
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
    for task in done:
        task.result()
    if pending:
        raise DemoError(f"The room's stream did not show the end of the run within {_PATIENCE_S:.0f} seconds.")
    return watching.result()


async def _watch(console: Console, agent: Agent, watcher: Watcher, connected: asyncio.Event) -> int:
    seen = 0
    async for event in watcher.events():
        if event is None:
            connected.set()
            continue
        seen += 1
        _tell(console, event, after_ms=(time.perf_counter() - agent.sent_at) * 1000)
        if event["event_type"] in ("run.completed", "run.failed"):
            return seen
    raise DemoError("The room's stream ended before the run did.")


async def _work(agent: Agent, connected: asyncio.Event) -> None:
    await connected.wait()
    await agent.create()
    await asyncio.sleep(_THINKING_S)
    await agent.start()
    for kind, title, given in STEPS:
        await asyncio.sleep(_THINKING_S)
        await agent.step(kind, title, given)
    await asyncio.sleep(_THINKING_S)
    await agent.complete()


def _tell(console: Console, event: JSON, *, after_ms: float) -> None:
    data = event["data"]
    verb = event["event_type"].partition(".")[2]
    line = Text.assemble(
        (f"  {event['stream_seq']:>3}  ", "dim"),
        (f"{event['event_type']:<14}", f"bold {_COLOURS.get(verb, 'white')}"),
        (f"{after_ms:>5.0f} ms  ", "dim"),
        data.get("title") or data.get("summary") or f"by {event['actor_type']} {event['actor_id']}",
        (f"  [{data['kind']}]" if "kind" in data else "", "magenta"),
    )
    console.print(line, soft_wrap=True)


async def _join_late(console: Console, watcher: Watcher, seen: int) -> None:
    """A second look from the middle: exactly what was missed, and no more."""
    middle = seen // 2
    missed: list[int] = []
    async for event in watcher.events(after=middle):
        if event is None:
            break
        missed.append(event["stream_seq"])
    numbers = ", ".join(map(str, missed))
    told = f"\n  A browser that lost its connection after event {middle} comes back and gets exactly {numbers}."
    console.print(told, soft_wrap=True)
    if missed != list(range(middle + 1, seen + 1)):
        raise DemoError(f"It should have got {middle + 1} to {seen}.")


async def _read_the_run(console: Console, reads: httpx.AsyncClient, agent: Agent) -> None:
    """The read side's answer, at least as new as the last command."""
    newest = {"min_seq": agent.last_seq}
    run: JSON = _body_of(await reads.get(f"/v1/runs/{agent.run_id}", params=newest))["run"]
    steps: list[JSON] = _body_of(await reads.get(f"/v1/runs/{agent.run_id}/steps", params=newest))["steps"]
    table = Table.grid(padding=(0, 2))
    for name in ("run_id", "status", "title", "summary", "output", "stream_seq", "correlation_id"):
        value = run[name]
        table.add_row(Text(name, "dim"), Text(value if isinstance(value, str) else json.dumps(value)))
    for step in steps:
        table.add_row(Text("step", "dim"), Text(f"{step['title']} [{step['kind']}]"))
    title = f"GET {reads.base_url}/v1/runs/{agent.run_id}".replace("//v1", "/v1")
    console.print(Group(Text(), Panel(table, title=title, border_style="green", expand=False)))


def _body_of(response: httpx.Response) -> JSON:
    """The JSON of a success. Raises `DemoError` with the service's own words otherwise."""
    if response.is_success:
        return response.json()
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("title") or response.reason_phrase
    raise DemoError(f"{response.request.method} {response.request.url} answered {response.status_code}: {detail}")


def run() -> int:
    """The exit code: 0 when the story was told to its end."""
    try:
        asyncio.run(main(Console(highlight=False), os.environ))
    except DemoError as error:
        print(error, file=sys.stderr)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        print(f"COMMAND_URL or QUERY_URL is no URL: {error}", file=sys.stderr)
    except httpx.ConnectError as error:
        url = error.request.url
        print(
            f"Nothing answers at {url.scheme}://{url.netloc.decode()}: is it up? Start it with `make up`.",
            file=sys.stderr,
        )
    except httpx.HTTPError as error:
        print(f"The stack stopped answering ({type(error).__name__}): see what `make up` says.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(run())
