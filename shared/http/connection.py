"""The connection under a streamed response, for responses that write the same bytes to thousands of clients.

Invariant: what is written is in HTTP's chunked framing already, and only while the response is the one in progress on
its connection. ASGI's ``send`` still ends the response, so the server knows when it is over.

ASGI costs a stream a coroutine for each write at every layer, framing and a copy of the same bytes for each client, and
a task that waits for the client to leave.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from struct import Struct
from termios import TIOCOUTQ
from typing import Any, Final, cast

from litestar.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.http.answer import Answer, HeadWithBody, ending_unless_asked
from shared.http.backlog import Backlog
from shared.http.intake import Intake
from shared.http.problems import CONNECTION
from shared.http.quota import Quota, no_room_to_wait
from shared.http.reading import Flow
from shared.turns import Turns

LARGE_CHUNK: Final = 256 * 1024
"""Bytes of a stream's chunk beyond which the backlog is told of it."""
REQUESTS_AT_ONCE: Final = 32
"""Begun in one turn of the loop: 3 ms of it when all ask for streams. A herd of them would stop others for 80 ms."""

CRUMBS_AT_ONCE: Final = 4
"""Times that a body in small pieces is read on, in one turn of the loop: 4 ms."""

_INT: Final = Struct("i")


class _Ahead:
    """What a client has sent ahead of its answers, in the backlog."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def drop(self) -> None:
        self._transport.abort()


class Connection(Intake):
    """One client's connection. A response finds it by ``connection_of``.

    The requests of all connections are begun in ``turns``, and what is kept of them until then has a ``quota``; what
    clients have yet to take of answers and of the large chunks of streams is in the ``backlog``, and so is what they
    have sent ahead.
    """

    __slots__ = (
        "_ahead",
        "_backlog",
        "_claimed",
        "_held",
        "_is_streaming",
        "_on_lost",
        "_quota",
        "_responding",
        "_turns",
    )

    def __init__(self, *arguments: Any, turns: Turns, quota: Quota, backlog: Backlog, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._turns = turns
        self._quota = quota
        self._claimed = 0
        self._backlog = backlog
        self._ahead: _Ahead | None = None
        self._on_lost: Callable[[], None] | None = None
        self._held = b""
        self._is_streaming = False
        self._responding: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        # In full, because the server's own asks the kernel for both ends' addresses, which nobody here wants to know:
        # 9 of the 190 µs that it takes to connect a stream.
        self.connections.add(self)
        self.transport = transport
        self.flow = Flow(transport)
        self.scheme = "http"
        self._times.head.watch(self)

    def listen(self, on_lost: Callable[[], None]) -> None:
        """From now on ``on_lost`` is called when the client is gone, requests behind this one or not."""
        self._on_lost = on_lost
        self._read_ahead()

    def listen_no_more(self) -> None:
        """To be called by whoever listens, in the end."""
        self._on_lost = None
        self._stop_reading_ahead()

    @property
    def is_full(self) -> bool:
        """Whether the client has yet to take what was written, so that nothing more should be."""
        return self.flow.write_paused

    @property
    def untaken(self) -> int:
        """Bytes that were written and that the client's machine has yet to take, those in our kernel's hands too."""
        if self.transport.is_closing():
            return 0
        left = self.transport.get_write_buffer_size()
        with suppress(OSError):  # not everywhere
            left += _INT.unpack(ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(_INT.size)))[0]
        return left

    def begin(self, status_and_headers: bytes) -> None:
        """Begins the response. Its head is held."""
        if (cycle := self._responding) is not None:
            cycle.transport = self.transport
            self._is_streaming = True
            cycle.response_started = cycle.chunked_encoding = True
            close = b"" if cycle.keep_alive else b"connection: close\r\n"
            server = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
            self.hold(b"%b%b%btransfer-encoding: chunked\r\n\r\n" % (status_and_headers, server, close))

    def hold(self, chunk: bytes) -> None:
        """Keeps a small chunk until the next one is written or ``flush`` is called: a system call is 10 µs."""
        self._held += chunk

    def flush(self) -> None:
        """Sends what is held."""
        if self._held:
            held, self._held = self._held, b""
            self.write(held)

    def write(self, chunk: bytes) -> bool:
        """Sends a chunk, after what is held. What the client does not take is kept: see ``is_full``.

        Whether it did: there may be no room for one more large chunk.
        """
        if self._responding is None:
            return True
        is_large = len(chunk) > LARGE_CHUNK
        if is_large and not self._backlog.has_room():
            return False
        if self._held:
            self.transport.writelines((self._held, chunk))
            self._held = b""
        else:
            self.transport.write(chunk)
        if is_large and self.is_full:
            self._count_to_the_end()
            self._backlog.share(self, chunk)
        return True

    async def drain(self) -> None:
        """Waits until the client has taken enough, or is gone."""
        await self.flow.drain()

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._is_streaming:  # there is a bound for each stream, and large chunks are counted as they are written
            self._count_to_the_end()
            self._backlog.hold(self, self.transport.get_write_buffer_size())
            self._backlog.has_room()  # if there is none, those who are too slow go now: not everybody asks before

    def _count_to_the_end(self) -> None:
        # A transport keeps all of a chunk until the last of it is sent; by itself it says so when a quarter of its
        # 64 KiB is left.
        self.transport.set_write_buffer_limits(HIGH_WATER_LIMIT, 0)

    def on_response_complete(self) -> None:
        self._is_streaming = False
        self._responding = None
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._backlog.release(self)
        super().resume_writing()

    def drop(self) -> None:
        self.transport.abort()

    def _set_aside(self, data: bytes, at: int) -> None:
        super()._set_aside(data, at)
        self._count_ahead()

    def _keep(self, data: bytes) -> None:
        super()._keep(data)
        self._count_ahead()

    def _count_ahead(self) -> None:
        if self._ahead is None:
            self._ahead = _Ahead(self.transport)
        self._backlog.hold(self._ahead, self._left)
        self._backlog.has_room()  # as above: if there is none, those who are too slow go now

    def _go_on(self) -> None:
        super()._go_on()
        # Not before: who has something left has kept the process waiting since the first of it came, read on or not.
        if not self._rest:
            self._release_ahead()

    def _drop_rest(self) -> None:
        self._release_ahead()
        super()._drop_rest()

    def _release_ahead(self) -> None:
        if self._ahead is not None:
            self._backlog.release(self._ahead)
            self._ahead = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._backlog.release(self)
        if self._responding is None:
            self._let_go_of_waiting()
        super().connection_lost(exc)
        if (cycle := self._responding) is not None:
            self._responding = None
            cycle.disconnected = True  # when requests are pipelined, the server says so to the last one only
            cycle.scope["extensions"] = {}  # it leads back here
        if self._on_lost is not None:
            self._on_lost()

    def _claim(self, size: int) -> None:
        if size and self._responding is None:
            if not self._quota.take(size):
                self._stop(no_room_to_wait())
            self._claimed += size

    def _give_room_back(self) -> None:
        if self._claimed:
            self._quota.give_back(self._claimed)
            self._claimed = 0

    def _end(self) -> None:
        self._give_room_back()  # what was kept of the request that is refused; the client may take long to leave
        super()._end()

    def _let_go_of_waiting(self) -> None:
        """Of a request that is still in the queue when the connection ends."""
        if self._current is not None:
            self._current.body.clear()
            self._current.scope = {}  # pyright: ignore[reportAttributeAccessIssue]
        self._let_go_of_head()
        self._give_room_back()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        self._turns.enter(lambda: self._start(cycle, app))

    def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._give_room_back()
        if self.transport.is_closing() or cycle.disconnected:  # refused meanwhile, or nobody is there
            return
        # Here, and not when the request is read: of pipelined requests only one is answered at a time.
        self._responding = cycle
        written_to = Answer if cycle.scope["method"] == "HEAD" else HeadWithBody
        if cycle.waiting_for_100_continue:
            app, written_to = ending_unless_asked(app, cycle), Answer
        cycle.transport = cast("asyncio.Transport", written_to(self.transport, self.close))
        cycle.scope["extensions"] = {CONNECTION: cast("dict[object, object]", self)}
        super()._start_asgi_task(cycle, app)


def connection_of(scope: Scope) -> Connection | None:
    """The connection that the response to this request goes to; None when the client is gone."""
    return cast("Connection | None", (scope["extensions"] or {}).get(CONNECTION))


@contextmanager
def telling_who_leaves(scope: Scope, tell: Callable[[], None]) -> Generator[None, None, None]:
    """Meanwhile ``tell`` is called once if the client of this request is gone: at once, if it is gone already."""
    connection = connection_of(scope)
    if connection is None:
        tell()
        yield
        return
    connection.listen(tell)
    try:
        yield
    finally:
        connection.listen_no_more()
