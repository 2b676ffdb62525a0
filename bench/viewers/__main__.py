"""``python -m bench.viewers``: a plan on standard input and then orders, line by line; what was seen as the answers."""

import asyncio
import random
import resource
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench.load.http import get
from bench.viewers.plan import Order, Plan, Seen
from bench.viewers.sse import StreamError, join_chunks, read_events

_CONNECTING = 1000
_CLIENTS_ON_ADDRESS = 8000


class Hall:
    """Everybody's clients, and what they have seen."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clients: list[Client] = []
        self._missing = 0
        self._done = asyncio.Event()
        self.ready = plan.ready.encode()
        self.start = plan.after
        self.until = 0
        self.newest = plan.after
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.fault = ""

    async def obey(self, order: Order) -> Seen:
        """Raises nothing: what went wrong is in the answer."""
        begun = time.monotonic()
        what = "in place" if order.until is None else f"at {order.until}"
        try:
            async with asyncio.timeout(order.seconds):
                await (self._connect() if order.until is None else self._wait(order.until))
        except TimeoutError:
            self.fault = self.fault or f"{self._missing} of {self._plan.clients} clients not {what} in time"
        except OSError as error:
            self.fault = self.fault or f"a client could not connect: {error}"
        seen = Seen(begun, time.monotonic(), self.first, self.last, self.fault)
        self.first, self.last = {}, {}
        return seen

    async def _connect(self) -> None:
        plan, loop = self._plan, asyncio.get_running_loop()
        free = asyncio.Semaphore(_CONNECTING)
        # Addresses of our own have ports that no other turn has used, so none is waiting for its last packet still.
        network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self._missing = plan.clients

        async def one(number: int) -> None:
            path = plan.paths[number % len(plan.paths)]
            address = (f"{network}.{1 + number // _CLIENTS_ON_ADDRESS}", 0)
            async with free:
                _, client = await loop.create_connection(
                    lambda: Client(self, path), "127.0.0.1", plan.port, local_addr=address
                )
                self._clients.append(client)

        await asyncio.gather(*(one(number) for number in range(plan.clients)))
        await self._done.wait()

    async def _wait(self, until: int) -> None:
        self.until = until
        self._missing = sum(client.at < until for client in self._clients)
        if not self._missing or self.fault:
            return
        self._done.clear()
        await self._done.wait()

    def request(self, path: str) -> bytes:
        plan = self._plan
        head = get(path, plan.workspace_id)[:-2] + b"accept: text/event-stream\r\n"
        return head + (b"last-event-id: %d\r\n\r\n" % plan.after if plan.after else b"\r\n")

    def arrive(self) -> None:
        """One client more has what is waited for."""
        self._missing -= 1
        if self._missing == 0:
            self._done.set()

    def fail(self, fault: str) -> None:
        self.fault = self.fault or fault
        self._done.set()


class Client(asyncio.Protocol):
    __slots__ = ("_hall", "_is_chunked", "_is_ready", "_path", "_rest", "_text", "at")

    def __init__(self, hall: Hall, path: str) -> None:
        self.at = hall.start
        self._hall = hall
        self._path = path
        self._is_ready = False
        self._is_chunked: bool | None = None  # None before the head of the answer
        self._rest = b""
        self._text = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._hall.request(self._path))

    def connection_lost(self, exc: Exception | None) -> None:
        self._hall.fail(f"a client was cut off: {exc or 'closed by the service'}")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            if self._is_chunked is None:
                data = self._begin(data)
            self._take(data, now)
        except (StreamError, ValueError) as error:
            self._hall.fail(str(error))

    def _begin(self, data: bytes) -> bytes:
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            self._rest = data
            return b""
        if not head.startswith(b"HTTP/1.1 200 "):
            raise StreamError(f"answered {head[:200]!r}")
        self._is_chunked = b"transfer-encoding: chunked" in head.lower()
        return body

    def _take(self, data: bytes, now: float) -> None:
        if not data or self._is_chunked is None:
            return
        hall = self._hall
        if self._is_chunked:
            data, self._rest = join_chunks(data)
        first, last, others, self._text = read_events(self._text + data if self._text else data)
        if last:
            before = self.at
            if first != before + 1:
                raise StreamError(f"a client at {before} got event {first}")
            self.at = last
            if last > hall.newest:
                hall.first.update(dict.fromkeys(range(hall.newest + 1, last + 1), now))
                hall.newest = last
            for seq in range(first, last + 1):
                hall.last[seq] = now
            if before < hall.until <= last:
                hall.arrive()
        if others and not self._is_ready and hall.ready in others:
            self._is_ready = True
            hall.arrive()


async def _serve() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hall = Hall(msgspec.json.decode(await reader.readline(), type=Plan))
    answer = b"{}"
    while True:
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
        if not (line := await reader.readline()):
            return
        answer = msgspec.json.encode(await hall.obey(msgspec.json.decode(line, type=Order)))


def main() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
