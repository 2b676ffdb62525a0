"""How requests come in: within bounds of size and time, or refused as a problem, before anybody is asked.

Invariant: a connection holds a bounded amount of what a client sends, for a bounded time, until a request is whole.
What is refused here never takes the place of another request's answer: those before it are answered first, and the
connection ends. A request that comes whole costs 1.7 µs more than with the server's own protocol.
"""

from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, cast

import httptools

from shared.http.backlog import Backlog
from shared.http.cors import Cors
from shared.http.deadlines import RequestTimes
from shared.http.head import (
    MAX_ESCAPED_PATH_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_HOST_BYTES,
    counted_while_it_comes,
    counted_while_it_waits,
    headers_too_large,
    is_host,
    is_target,
    size_of,
    too_many_heads,
    uri_too_long,
    without_upgrade,
)
from shared.http.problems import Problem, invalid_request
from shared.http.reading import BODY, HEAD, IDLE, MOST_WAITING, Flow, Reading
from shared.http.refusal import refusal
from shared.metrics import BROKEN_REQUESTS

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""What comes with them means nothing (RFC 9110, 9.3.1) and is dropped as it comes: nobody asks for it."""
_HEEDED: Final = frozenset({b"host", b"expect", b"transfer-encoding"})


class _RefusedError(Exception):
    """Out of the parser: the request is not to be read on."""


class _Arriving:
    """A head that is not whole, or a trailer, in the backlog of those."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[Problem], None]) -> None:
        self._refuse = refuse

    def drop(self) -> None:
        self._refuse(too_many_heads())


class Intake(Reading):
    """The server's own protocol, with bounds. ``heads`` are those of all connections that have yet to come whole, and
    their trailers."""

    __slots__ = (
        "_arriving",
        "_chunk_bytes",
        "_cors",
        "_head_bytes",
        "_heads",
        "_hosts",
        "_is_ending",
        "_is_stopping",
        "_loose_bytes",
        "_problem",
        "_times",
        "_unclaimed_bytes",
        "_upgrade",
    )

    def __init__(self, *arguments: Any, times: RequestTimes, heads: Backlog, cors: Cors, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.url = b""
        self._heads = heads
        self._arriving: _Arriving | None = None
        self._times = times
        self._cors = cors
        self._chunk_bytes = 0
        self._unclaimed_bytes = 0
        self._head_bytes = 0
        self._loose_bytes = 0
        self._hosts = 0
        self._is_ending = False
        self._is_stopping = False
        self._problem: Problem | None = None
        self._upgrade: bytes | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._times.end.forget(self)
        super().connection_lost(exc)
        # They lead back here, and what goes in circles is collected late.
        self.pipeline.clear()
        self.cycle = self._current = None  # pyright: ignore[reportAttributeAccessIssue]  # as before the first
        self._drop_rest()

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()  # not before: empty lines are no request (RFC 9112, 2.2)
        self._part = HEAD
        # Where in the chunk it begins is not known: the head has at least what no message before it can have had.
        self._head_bytes, self._unclaimed_bytes = self._unclaimed_bytes, 0
        self._hosts = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # In place of the server's own, which takes a trailer's fields for the head's (RFC 9110, 6.5.1).
        name = name.lower()
        if self._part is BODY:
            self._pieces += 1
            if name in (b"connection", b"proxy-connection"):  # the parser heeds it, and would hear nothing after it
                self._stop(invalid_request("Connection: not in a trailer (RFC 9110, 6.5.1)"))
            return
        if len(self.headers) >= MAX_HEADERS:  # now, as it may never end, and a field of six bytes is 150 of objects
            self._stop(headers_too_large())
        value = value.rstrip(b" \t")  # the parser leaves out only what is before it (RFC 9112, 5.1)
        if name in _HEEDED:
            self._heed(name, value.lower())
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if b"#" in self.url:
            self._stop(invalid_request("the request's target has a fragment (RFC 9112, 3.2)"))
        if not is_target(self.url):
            self._stop(invalid_request("the request's target is none that can be read (RFC 9112, 3.2)"))
        if len(self.url) > MAX_ESCAPED_PATH_BYTES and (too_long := uri_too_long(self.url)) is not None:
            self._stop(too_long)
        if self._chunk_bytes > MAX_HEAD_BYTES and size_of(self.url, self.headers) > MAX_HEAD_BYTES:
            self._stop(headers_too_large())
        version = self.parser.get_http_version()
        if version != "1.1":
            self._take_older(version)
        if self._hosts != 1 and (self._hosts > 1 or version == "1.1"):
            self._stop(invalid_request("Host: once in a request (RFC 9112, 3.2)"))
        if self.parser.should_upgrade():
            self._upgrade = self._head_without_upgrade()
            return
        self._claim(counted_while_it_waits(self._head_bytes, len(self.headers)))
        self._part = BODY
        self._loose_bytes = 0
        self._forget_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        self._pieces += 1
        if self._upgrade is None and not self.cycle.response_complete and self.scope["method"] not in _WITHOUT_BODY:
            self._claim(len(body))
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade is not None:
            return
        self._part = IDLE
        self._times.body.forget(self)
        if self._arriving is not None:
            self._release_arriving()
        super().on_message_complete()

    def expired(self) -> None:
        """The request did not come whole in time, or the connection is over. One nobody has used is closed without a
        word."""
        if self._part is IDLE or self._is_deaf:
            self.transport.close()
        else:
            self._refuse(Problem(408, "request_timeout", "the request took too long to come"))

    def shutdown(self) -> None:
        self._is_stopping = True
        if self._is_ending:
            self.transport.close()
        else:
            super().shutdown()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_ending:
            self._times.end.watch(self)

    def close(self) -> None:
        """To be called with a request's last answer. One that is whole before its request is can be read all the same;
        while the server stops, nobody is waited for."""
        cycle = self._current
        if cycle is not None and cycle.response_complete and self._is_of_current() and not self._is_stopping:
            self._is_deaf = True  # and ends when the answer is over, which is now
            self._forget()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        if (answered := self._current) is not None:
            answered.body.clear()  # nobody asks for it any more
            answered.scope = {}  # pyright: ignore[reportAttributeAccessIssue]  # nor for this
            if self.cycle is answered and self._part is not HEAD:
                self._let_go_of_head()
        self._stop_reading_ahead()
        if self._is_deaf and not self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._end()
        else:
            # Or the timer of a connection at rest would keep what the request was handled in, and with it all of it.
            Context().run(super().on_response_complete)
            if self._part is HEAD:
                self._unset_keepalive_if_required()  # the next one has begun before this one was over
            if self._rest and len(self.pipeline) < MOST_WAITING and not self.transport.is_closing():
                Context().run(self._go_on)

    def _feed(self, data: bytes | memoryview) -> int | None:
        """Where the parser stops, to leave the rest to another protocol; None if it does not."""
        self._chunk_bytes = len(data)
        self._unclaimed_bytes = len(data) if self._part is IDLE else 0
        if self._part is HEAD:
            self._head_bytes += len(data)
            # Nor is it known how much of the head came in the chunk it began in: it is measured when it is whole.
            self._chunk_bytes += MAX_HEAD_BYTES
        elif self._part is BODY:
            self._loose_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return upgrade.args[0]
        except httptools.HttpParserError:
            self._refuse(self._problem or invalid_request("the request is not HTTP/1.1 as RFC 9112 has it"))
        return None

    def _claim(self, size: int) -> None:
        """So much more is kept of the request that is read, if it may be."""
        raise NotImplementedError

    def _await_rest(self) -> None:
        if self._part is BODY and self._loose_bytes <= MAX_HEAD_BYTES:
            self._times.body.watch(self)
        elif self._part is BODY:
            detail = f"trailers and what chunks have beside the body are larger than {MAX_HEAD_BYTES} bytes"
            self._refuse(Problem(431, "headers_too_large", detail))
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(headers_too_large())
        else:
            self._times.head.watch(self)

    def _count_arriving(self) -> None:
        if self._part is HEAD:
            size = counted_while_it_comes(self._head_bytes, len(self.headers))
        else:  # the parser has a trailer's field as one of a head, until it is whole and dropped
            size = counted_while_it_comes(self._loose_bytes, 0)
        if not size:
            self._release_arriving()
            return
        has_room = self._heads.has_room()
        if self._is_deaf:  # it had to go itself
            return
        if not has_room:
            self._refuse(too_many_heads())
            return
        if self._arriving is None:
            self._arriving = _Arriving(self._refuse)
        self._heads.hold(self._arriving, size)

    def _heed(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if len(value) > MAX_HOST_BYTES or not is_host(value):
                self._stop(invalid_request("Host: expected a host, and a port if any (RFC 9112, 3.2)"))
        elif name == b"expect":
            if value == b"100-continue":
                self.expect_100_continue = True
        elif value != b"chunked" or any(earlier == name for earlier, _ in self.headers):
            self._stop(invalid_request("Transfer-Encoding: chunked, and nothing else (RFC 9112, 6.1)"))

    def _take_older(self, version: str) -> None:
        if version != "1.0":  # the parser knows some more, and reads them as if they were 1.1
            self._stop(invalid_request("the request is neither HTTP/1.1 nor HTTP/1.0"))
        self.expect_100_continue = False  # such a client would take a 100 for the answer (RFC 9110, 10.1.1)

    def _stop(self, problem: Problem) -> None:
        self._problem = problem
        raise _RefusedError

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._stop(invalid_request("CONNECT: this is no proxy"))
        ends = not self.parser.should_keep_alive()
        return without_upgrade(method, self.url, self.parser.get_http_version(), self.headers, ends=ends)

    def _read_again(self) -> None:
        """Reads the request's head as one of this protocol: the parser would leave its body to the other one."""
        head, self._upgrade = self._upgrade or b"", None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the server's own
        self._part = IDLE
        self._feed(head)

    def _refuse(self, problem: Problem) -> None:
        """Answers with the problem if it is the turn of the request that is wrong, and ends the connection."""
        self._is_deaf = True
        self._drop_rest()
        self._forget()
        broken = self.cycle if self._part is BODY else None
        if broken is not None:
            broken.disconnected = True
            broken.waiting_for_100_continue = False  # it has its answer
            broken.scope["extensions"] = {}
            broken.message_event.set()
            self.pipeline = type(self.pipeline)(item for item in self.pipeline if item[0] is not broken)
        waiting = self._current
        if waiting is not None and waiting is not broken and not waiting.response_complete:
            # Those that are whole are answered, and the connection ends after the last of them.
            self.cycle = self.pipeline[0][0] if self.pipeline else waiting
            return
        if broken is not None and (broken.response_started or broken.response_complete):
            self.transport.close()
            return
        BROKEN_REQUESTS.labels(problem.error).inc()
        self.transport.write(refusal(problem, self.url, self.headers, self.server_state.default_headers, self._cors))
        self._end()

    def _end(self) -> None:
        """Ends the connection in a way that lets the client read what was written to it: to close it with something
        unread is to reset it, and whoever is told of that has lost what it had not read. Its time begins when
        all of that is sent; while the server stops, nobody is waited for."""
        self.parser = cast("httptools.HttpRequestParser", None)  # it has what it has read of a field
        self._let_go_of_head()
        if self._is_stopping or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._is_ending = True
        if (flow := cast("Flow", self.flow)).is_held:  # what comes is dropped
            self._drop_rest()
            flow.is_held = False
            flow.resume_reading()
        self.transport.write_eof()
        self.transport.set_write_buffer_limits(0)  # by which it says when nothing is left
        if not self.flow.write_paused:
            self._times.end.watch(self)

    def _forget(self) -> None:
        self._forget_head()
        self._times.body.forget(self)

    def _forget_head(self) -> None:
        self._times.head.forget(self)
        self._release_arriving()

    def _release_arriving(self) -> None:
        if self._arriving is not None:
            self._heads.release(self._arriving)
            self._arriving = None

    def _let_go_of_head(self) -> None:
        """It would be here until the next one comes, or the connection ends."""
        self.scope = {}  # pyright: ignore[reportAttributeAccessIssue]
        self.headers, self.url = [], b""
