"""Where key sets come from: a file, or a URL.

Invariant: to read one takes a bounded time and a bounded amount of memory, and never the event loop's time for a
network.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, cast
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
    """A document on the web, as issuers publish theirs. It is where the setting says: redirects are not followed."""

    every_seconds = 300.0
    least_seconds = 10.0

    def __init__(self, url: str) -> None:
        self._url = url

    async def read(self) -> bytes:
        return await asyncio.to_thread(_fetch, self._url)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:  # noqa: ARG002
        return None


class _Noting(HTTPHandler, HTTPSHandler):
    """Both, with TLS as it is by default. Notes the sockets it opens."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def http_open(self, req: Request) -> Any:
        return self._open(HTTPConnection, req)

    def https_open(self, req: Request) -> Any:
        return self._open(HTTPSConnection, req)

    def _open(self, kind: type[HTTPConnection], req: Request) -> Any:
        sockets = self._sockets

        class Noting(kind):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        return self.do_open(Noting, req)


def _fetch(url: str) -> bytes:
    sockets: list[socket.socket] = []
    is_over = threading.Event()
    # From outside: a byte now and then, wherever in the answer, would keep a reader for ever.
    end = threading.Timer(_WHOLE_SECONDS, _shut, (sockets, is_over))
    end.daemon = True
    end.start()
    try:
        request = Request(url, headers={"accept": "application/json"})  # noqa: S310  # the setting's scheme was checked
        opener = build_opener(_NoRedirects, _Noting(sockets))
        with opener.open(request, timeout=_SILENT_SECONDS) as answer:
            raw = _read(cast("HTTPResponse", answer))
        if is_over.is_set():  # what was cut short may look whole
            raise TimeoutError(f"not complete after {_WHOLE_SECONDS:.0f} seconds")
        return raw
    except HTTPException as error:
        raise JwksError(f"not an HTTP answer: {type(error).__name__}") from error
    except ValueError as error:  # a UnicodeError of a host or a path that cannot be sent, for one
        raise JwksError(f"not a URL that can be asked: {type(error).__name__}") from error
    finally:
        end.cancel()


def _shut(sockets: list[socket.socket], is_over: threading.Event) -> None:
    is_over.set()
    for opened in sockets:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)


def _read(response: HTTPResponse) -> bytes:
    if response.status != HTTPStatus.OK:
        raise JwksError(f"answered {response.status}")
    raw = b""
    while chunk := response.read1(_CHUNK_BYTES):
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise JwksError(f"larger than {MOST_BYTES} bytes")
    return raw
