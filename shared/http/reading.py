"""When what has come is read: requests behind one that is answered wait as bytes, bodies in small pieces take turns.

Invariant: no more is read than may wait as objects; what is set aside is read on when it is its turn.
"""

from typing import Any, Final, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shared.http.slices import end_of_slice
from shared.turns import Turns

MOST_WAITING: Final = 2
"""Requests behind the one that is answered; a slice may have a few more."""
_MOST_AHEAD_BYTES: Final = 16 * 1024
"""Of what a client sends behind a request that is waited for."""
_MOST_PIECES: Final = 500
"""Of bodies and trailers, read in one go, and slices: one may have 700 more. Each takes 1.4 µs, and 256 KiB may have
40,000 of a byte."""
IDLE, HEAD, BODY = range(3)
"""What of a request is read next."""


class Flow(FlowControl):
    """Of a connection that is not read on while it is ``is_held``, whoever asks."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class Reading(HttpToolsProtocol):
    """The server's own protocol, which hands on what has come to ``_feed`` when it is to be read.

    Of bodies in small pieces no more is read in one turn of the loop than ``crumbs`` lets through.
    """

    __slots__ = ("_crumbs", "_current", "_is_ahead", "_is_deaf", "_part", "_pieces", "_rest", "_rest_at")

    def __init__(self, *arguments: Any, crumbs: Turns, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._crumbs = crumbs
        self._current: RequestResponseCycle | None = None
        self._is_ahead = False
        self._is_deaf = False
        self._part = IDLE
        self._pieces = 0
        self._rest = b""
        self._rest_at = 0

    def data_received(self, data: bytes) -> None:
        # In place of the server's own, which logs a line for whatever anybody sends.
        if self._rest or (self._is_ahead and not self._is_of_current()):
            self._keep(data)
            return
        self._take(data)
        if self._is_ahead:
            self._read_ahead()

    def _feed(self, data: bytes | memoryview) -> int | None:
        """Where the parser stops, to leave the rest to another protocol; None if it does not."""
        raise NotImplementedError

    def _await_rest(self) -> None:
        """A slice is read in which the request does not end."""
        raise NotImplementedError

    def _count_arriving(self) -> None:
        """All that has come is read, and the request is not whole."""
        raise NotImplementedError

    def _read_again(self) -> None:
        """The parser has stopped."""
        raise NotImplementedError

    def _forget(self) -> None:
        """The client's time is not running."""
        raise NotImplementedError

    def _take(self, data: bytes, at: int = 0) -> None:
        """Reads as much of it as there may be requests waiting, of them what a slice has, and keeps the rest for their
        turn."""
        view = memoryview(data)
        self._pieces = 0
        while at < len(view) and not self._is_deaf:
            if self._pieces > _MOST_PIECES:
                self._set_aside(data, at)
                self._crumbs.enter(self._take_turn)
                return
            if len(self.pipeline) >= MOST_WAITING or (self._part is not IDLE and self._is_of_next()):
                self._hold(data, at)
                return
            self._pieces += 1  # empty lines are slices of 64 bytes
            piece = view[at : end_of_slice(data, at)]
            stopped_at = self._feed(piece)
            if stopped_at is None:
                at += len(piece)
            else:
                at += stopped_at
                self._read_again()
            if self._part is not IDLE and not self._is_deaf:
                self._await_rest()
        if self._part is not IDLE and not self._is_deaf:
            self._count_arriving()

    def _hold(self, data: bytes, at: int) -> None:
        self._set_aside(data, at)
        self._forget()  # it has come, and waits for us

    def _set_aside(self, data: bytes, at: int) -> None:
        # What has been read is let go of when it is the half: at each request that would copy all the others each time.
        self._rest, self._rest_at = (data[at:], 0) if 2 * at > len(data) else (data, at)
        self.flow.pause_reading()
        cast("Flow", self.flow).is_held = True

    def _drop_rest(self) -> None:
        """Nobody reads on."""
        self._rest, self._rest_at = b"", 0

    def _take_turn(self) -> None:
        if self._rest and not self._is_deaf and not self.transport.is_closing():
            self._go_on()
            if self._is_ahead:
                self._read_ahead()

    def _read_ahead(self) -> None:
        """Reads on, whatever waits already, as only a connection that is read says that its client has left. What comes
        is kept as it is, and beyond a bound it is not read on."""
        if self._left <= _MOST_AHEAD_BYTES:
            self._is_ahead = True
            cast("Flow", self.flow).is_held = False
            self.flow.resume_reading()

    def _stop_reading_ahead(self) -> None:
        if self._is_ahead:
            self._is_ahead = False
            if self._rest:
                self._hold(self._rest, self._rest_at)
            elif self.pipeline:
                self.flow.pause_reading()

    @property
    def _left(self) -> int:
        """Bytes that have come and are yet to be read."""
        return len(self._rest) - self._rest_at

    def _is_of_current(self) -> bool:
        """Whether what comes next is the body of the request that is answered."""
        return self._part is BODY and self.cycle is self._current

    def _is_of_next(self) -> bool:
        """Whether what comes next is of one behind the request that is answered. What has been read of it counts for
        nobody, so it is not read on."""
        if self._part is HEAD:
            return self._current is not None and not self._current.response_complete
        return self.cycle is not self._current

    def _keep(self, data: bytes) -> None:
        if not self._is_deaf:
            self._rest += data
            self._forget()
            if self._left > _MOST_AHEAD_BYTES:
                self._stop_reading_ahead()

    def _go_on(self) -> None:
        rest, at, self._rest, self._rest_at = self._rest, self._rest_at, b"", 0
        cast("Flow", self.flow).is_held = False
        self.flow.resume_reading()
        self._take(rest, at)
