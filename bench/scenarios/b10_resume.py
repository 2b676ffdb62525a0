"""B10: 1,000 clients come back at once, each 1,000 events behind, while others follow their own room live.

How long until the last has caught up, and what the others notice of it: from an event's request to the last of them.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Figures, Measure, Scenario, Setting, Target
from bench.history import Plan as HistoryPlan
from bench.history import read_history
from bench.load.http import Connection, connect
from bench.population import fill_history
from bench.publishers import CommandPublisher, publish_paced
from bench.stack import running_stack
from bench.viewers import Plan, Seen, Viewers, open_viewers

_CLIENTS, _BEHIND, _ROOMS = 1000, 1000, 100
_OTHERS, _RATE = 100, 100.0


class _Feed:
    """Rooms with a history, and one more that others follow live at 100 events a second."""

    def __init__(self, command: Connection, query_port: int, clients: int, behind: int) -> None:
        self._command = command
        self._port = query_port
        self._clients = clients
        self._behind = behind
        self._rooms = itertools.count(1)

    def resume(self, rooms: list[str]) -> Measure:
        async def measure(seconds: float) -> Figures:
            paths = [f"/v1/streams/rooms/{room}" for room in rooms]
            async with (
                open_viewers(Plan(port=self._port, paths=paths, clients=self._clients)) as viewers,
                self._others_following() as due_and_seen,
            ):
                seen = await self._come_back(viewers)
                due, others = await due_and_seen()
            done = max(seen.last.values())
            took = done - seen.begun
            # What was under way meanwhile; a very short meanwhile may have had nothing.
            meanwhile = [seq for seq, at in due.items() if at <= done and others.last[seq] >= seen.begun]
            return {
                "s to the last": took,
                "events/s": self._clients * self._behind / took,
                **_latencies(due, others, meanwhile or list(due)),
            }

        return measure

    async def undisturbed(self, seconds: float) -> Figures:
        async with self._others_following() as due_and_seen:
            await asyncio.sleep(seconds)
            due, others = await due_and_seen()
        return _latencies(due, others, list(due))

    async def _come_back(self, viewers: Viewers) -> Seen:
        placed = await viewers.connect()
        seen = await viewers.saw(self._behind)
        return Seen(placed.begun, seen.done, placed.first | seen.first, placed.last | seen.last)

    @contextlib.asynccontextmanager
    async def _others_following(self) -> AsyncGenerator["_Finish", None]:
        room = f"live_{next(self._rooms)}"
        stop = asyncio.Event()
        async with open_viewers(Plan(port=self._port, paths=[f"/v1/streams/rooms/{room}"], clients=_OTHERS)) as viewers:
            await viewers.connect()
            publishing = asyncio.create_task(publish_paced(CommandPublisher(self._command, room), _RATE, stop))
            yield _Finish(viewers, stop, publishing)


class _Finish:
    """Ends the live feed: when each event was due, and when its last client had it."""

    def __init__(self, viewers: Viewers, stop: asyncio.Event, publishing: asyncio.Task[dict[int, float]]) -> None:
        self._viewers = viewers
        self._stop = stop
        self._publishing = publishing

    async def __call__(self) -> tuple[dict[int, float], Seen]:
        self._stop.set()
        due = await self._publishing
        seen = await self._viewers.saw(max(due))
        assert seen.last.keys() == due.keys(), f"{len(due)} events, {len(seen.last)} seen"
        return due, seen


def _latencies(due: dict[int, float], seen: Seen, events: list[int]) -> Figures:
    late = sorted(seen.last[seq] - due[seq] for seq in events)
    return {"live p50 ms": 1000 * late[len(late) // 2], "live p99 ms": 1000 * late[len(late) * 99 // 100]}


def _select(dsn: str, rooms: list[str], times: int, events: int) -> Measure:
    async def measure(seconds: float) -> Figures:
        took = await read_history(HistoryPlan(dsn=dsn, rooms=rooms, events=events, times=times))
        return {"s to the last": took, "events/s": times * events / took}

    return measure


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    clients, behind = round(_CLIENTS * setting.size), round(_BEHIND * max(setting.size, 0.2))
    rooms = [f"behind_{number}" for number in range(max(1, round(_ROOMS * setting.size)))]
    async with running_stack(setting.folder) as stack:
        await fill_history(stack.projection_dsn, rooms, behind)
        command, query = await stack.service("command"), await stack.service("query")
        connection = await connect(command.port)
        feed = _Feed(connection, query.port, clients, behind)
        yield [
            Contestant("Runroom, one room", "runroom", feed.resume(rooms[:1])),
            Contestant("Runroom, 100 rooms", "runroom", feed.resume(rooms)),
            Contestant("live feed alone", "floor", feed.undisturbed),
            Contestant("SELECT, 100 rooms", "floor", _select(stack.projection_dsn, rooms, clients, behind)),
        ]
        connection.close()


SCENARIO = Scenario(
    "B10",
    "1,000 clients resume at once, each 1,000 events behind",
    _open,
    (
        Target("live p99 ms", "Runroom, one room", "at most", 100),
        Target("live p99 ms", "Runroom, 100 rooms", "at most", 100),
    ),
)
