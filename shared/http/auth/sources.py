"""Where key sets come from: a file, or a URL.

Invariant: to read one takes a bounded time and a bounded amount of memory, and never the event loop's time for a
network. Of a source that takes longer one thread is left behind at the most, which keeps nobody from ending.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from shared.http.auth.jwks import MOST_BYTES, JwksError, read_bounded

_SILENT_SECONDS: Final = 3.0
_WHOLE_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 16 * 1024


class FileSource:
    """A file that may be replaced at any time."""

    every_seconds = 1.0
    least_seconds = 0.5

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def read(self) -> bytes:
        # A local file of a kilobyte: 20 µs, less than a thread would take.
        return read_bounded(self._path)


class UrlSource:
    """A document on the web, as issuers publish theirs. It is where the setting says: redirects are not followed.

    The proxies of the environment count.
    """

    every_seconds = 300.0
    least_seconds = 10.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked: Future[bytes] | None = None

    async def read(self) -> bytes:
        # To look up a name, or to try several addresses, takes as long as it takes, and nothing can cut it short.
        if self._asked is not None and not self._asked.done():
            raise TimeoutError("what was asked before is still under way")
        self._asked = asked = _in_a_thread_of_its_own(self._url)
        answer = asyncio.wrap_future(asked)
        try:
            await asyncio.wait({answer}, timeout=_WHOLE_SECONDS)
            if not answer.done():
                raise _too_late()
            return answer.result()
        finally:
            answer.cancel()  # what comes later is for nobody


def _in_a_thread_of_its_own(url: str) -> Future[bytes]:
    """Not in one of the event loop's, which are waited for when the process ends."""
    asked: Future[bytes] = Future()
    asked.set_running_or_notify_cancel()  # so that nobody can cancel it, and it is done when the thread is

    def ask() -> None:
        try:
            asked.set_result(_fetch(url))
        except BaseException as error:  # whoever waits for it raises it
            asked.set_exception(error)

    threading.Thread(target=ask, name="token keys", daemon=True).start()
    return asked


def _too_late() -> TimeoutError:
    return TimeoutError(f"not complete after {_WHOLE_SECONDS:.0f} seconds")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:  # noqa: ARG002
        return None


class _Watch:
    """Ends what is read of a server, however it goes on, once its time is over.

    From outside: a byte now and then, wherever in the answer or in the handshake, would keep a reader for ever.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._is_over = threading.Event()
        self._timer = threading.Timer(_WHOLE_SECONDS, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        for watched in self._sockets:
            watched.close()

    def add(self, connected: socket.socket) -> None:
        # A socket of our own of the same connection: TLS takes the one it is given apart.
        self._sockets.append(connected.dup())
        self.check()

    def check(self) -> None:
        """Raises ``TimeoutError`` if the time is over: what was cut short may look whole."""
        if self._is_over.is_set():
            raise _too_late()

    def _end(self) -> None:
        self._is_over.set()
        for watched in self._sockets:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


class _Watched(HTTPHandler, HTTPSHandler):
    """Both, with TLS as it is by default, in connections that are watched from before anything is said."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch.add(self.sock)

            def _tunnel(self) -> None:  # the question to a proxy, which ``connect`` begins with
                watch.add(self.sock)
                super()._tunnel()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

        class Secure(HTTPSConnection, Plain):
            """Its ``connect`` is the one above and the handshake."""

        self._plain, self._secure = Plain, Secure

    def http_open(self, req: Request) -> Any:
        return self.do_open(self._plain, req)

    def https_open(self, req: Request) -> Any:
        return self.do_open(self._secure, req)


def _fetch(url: str) -> bytes:
    try:
        request = Request(url, headers={"accept": "application/json"})  # noqa: S310  # the setting's scheme was checked
        with (
            _Watch() as watch,
            build_opener(_NoRedirects, _Watched(watch)).open(request, timeout=_SILENT_SECONDS) as answer,
        ):
            raw = _read(cast("HTTPResponse", answer))
            watch.check()
        return raw
    except HTTPError as error:
        with error:  # it is the answer, too
            raise JwksError(f"answered {error.code}") from None
    except HTTPException as error:
        raise JwksError(f"not an HTTP answer: {type(error).__name__}") from error
    except ValueError as error:  # a UnicodeError of a host or a path that cannot be sent, for one
        raise JwksError(f"not a URL that can be asked: {type(error).__name__}") from error


def _read(response: HTTPResponse) -> bytes:
    if response.status != HTTPStatus.OK:
        raise JwksError(f"answered {response.status}")
    raw = b""
    while chunk := response.read1(_CHUNK_BYTES):
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise JwksError(f"larger than {MOST_BYTES} bytes")
    return raw
