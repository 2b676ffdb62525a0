"""``python -m bench.load``: a plan on standard input, what was counted on standard output."""

import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import uvloop

from bench.load.audience import Audience
from bench.load.http import Answer, Connection, connect, get, post
from bench.load.plan import Counted, Plan

Send = Callable[[bytes], Awaitable[Answer]]
_STEPS = 5


class Client:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._latencies: list[float] = []
        self._by_request: dict[bytes, list[float]] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._frames: list[float] = []
        self._audience = Audience(plan.feed_port, plan.rooms, plan.workspace_id) if plan.kind == "follow" else None
        self._refused: Counter[str] = Counter()

    async def run(self) -> Counted:
        plan = self._plan
        connections = [await connect(plan.port) for _ in range(plan.callers)]
        if self._audience:
            await self._audience.sit_down()
        started = time.perf_counter()
        until = started + plan.seconds
        if plan.rate:
            await self._pace(connections, started, until)
        else:
            requests = self._requests()
            await asyncio.gather(*(self._call(connection, requests, until) for connection in connections))
        seconds = time.perf_counter() - started
        for connection in connections:
            connection.close()
        if self._audience:
            self._audience.leave()
        latencies, frames = sorted(self._latencies) or [0.0], sorted(self._frames) or [0.0]
        return Counted(
            requests=len(self._latencies),
            seconds=seconds,
            p50=1000 * latencies[len(latencies) // 2],
            p99=1000 * latencies[len(latencies) * 99 // 100],
            most=1000 * latencies[-1],
            by_path={path: self._median(path) for path in plan.paths if len(plan.paths) > 1},
            frame_p50=1000 * frames[len(frames) // 2],
            frame_p99=1000 * frames[len(frames) * 99 // 100],
            refused=dict(self._refused),
        )

    def _requests(self) -> Iterator[bytes]:
        plan = self._plan
        if plan.kind == "get":
            requests = [get(path, plan.workspace_id) for path in plan.paths]
            self._by_request = {request: [] for request in requests}
            self._bodies = {request: body.encode() for request, body in zip(requests, plan.bodies, strict=False)}
            return itertools.cycle(requests)
        return itertools.cycle([post("/v1/runs", plan.workspace_id, _run_in(room)) for room in plan.rooms])

    async def _call(self, connection: Connection, requests: Iterator[bytes], until: float) -> None:
        while time.perf_counter() < until:
            due = time.perf_counter()
            answer = await self._timed(connection, next(requests), due)
            if self._plan.kind == "life" and answer.status == 201:
                await self._live(connection, answer)
            await self._watch(answer, due)

    async def _live(self, connection: Connection, created: Answer) -> None:
        path = f"/v1/runs/{msgspec.json.decode(created.body)['run_id']}"
        step = b'{"kind":"tool","title":"Find a date","input":{"month":"June"}}'
        bodies = [
            ("start", b"{}"),
            *[("steps", step)] * _STEPS,
            ("complete", b'{"summary":"June","output":{"days":3}}'),
        ]
        for verb, body in bodies:
            request = post(f"{path}/{verb}", self._plan.workspace_id, body)
            await self._timed(connection, request, time.perf_counter())

    async def _pace(self, connections: list[Connection], started: float, until: float) -> None:
        """Each request on a connection that is free; waiting for one counts."""
        requests = self._requests()
        free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            free.put_nowait(connection)

        async def one(due: float) -> None:
            connection = await free.get()
            answer = await self._timed(connection, next(requests), due)
            free.put_nowait(connection)
            await self._watch(answer, due)

        async with asyncio.TaskGroup() as tasks:
            for number in itertools.count():
                due = started + number / self._plan.rate
                if due >= until:
                    return
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(one(due))

    async def _watch(self, created: Answer, due: float) -> None:
        if self._audience and created.status == 201:
            told = msgspec.json.decode(created.body)
            self._frames.append(await self._audience.saw(told["room_id"], told["stream_seq"]) - due)

    async def _timed(self, connection: Connection, request: bytes, due: float) -> Answer:
        answer = await connection.send(request)
        latency = time.perf_counter() - due
        if answer.status >= 300:
            self._refused[str(answer.status)] += 1
        elif self._bodies and answer.body != self._bodies[request]:
            self._refused["another body"] += 1
        else:
            self._latencies.append(latency)
            if request in self._by_request:
                self._by_request[request].append(latency)
        return answer

    def _median(self, path: str) -> float:
        latencies = self._by_request[get(path, self._plan.workspace_id)]
        return 1000 * statistics.median(latencies or [0.0])


def _run_in(room_id: str) -> bytes:
    run = {
        "room_id": room_id,
        "title": "Plan the offsite",
        "goal": "Everybody in one place for two days",
        "input": {"people": 12, "month": "June"},
        "tags": ["ops", "bench"],
    }
    return msgspec.json.encode(run)


async def _run(plan: Plan) -> Counted:
    return await Client(plan).run()


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    counted = uvloop.run(_run(plan))
    sys.stdout.buffer.write(msgspec.json.encode(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
