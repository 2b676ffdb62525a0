"""Streams belong to a token: they end with it, and nobody has more than so many."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress

import httpx

from tests.contract import expect
from tests.contract.client import Workspace, fresh
from tests.contract.sse import DEADLINE, Control, RoomStream, StreamEndedError

from .deployment import COOKIE, ORIGIN, STREAMS_OF_ONE, Guarded, cookie


async def ended(stream: RoomStream) -> None:
    """Reads to the stream's end, whatever comes before it. A stream that goes on fails the test in time."""
    async with asyncio.timeout(2 * DEADLINE):
        with suppress(StreamEndedError):
            while True:
                await stream.item()


async def test_a_stream_ends_when_its_token_expires(guarded: Guarded) -> None:
    lasting = guarded.workspace()
    brief = guarded.workspace(lasting.id, exp=int(time.time()) + 3)
    await lasting.create("r")
    async with brief.stream("r") as short, lasting.stream("r") as long:
        assert (await short.event()).seq == 1
        await ended(short)
        expect.problem(await brief.no_stream("r"), 401, "invalid_token")
        # The other one goes on.
        assert (await long.event()).seq == 1
        await lasting.create("r")
        assert (await long.event()).seq == 2


async def test_what_happens_after_the_end_is_not_seen(guarded: Guarded) -> None:
    lasting = guarded.workspace()
    ends_at = int(time.time()) + 2
    brief = guarded.workspace(lasting.id, exp=ends_at)
    seen = 0
    async with brief.stream("r") as short:
        with suppress(StreamEndedError):
            while time.time() < ends_at + DEADLINE:
                written = (await lasting.create("r"))["stream_seq"]
                seen = (await short.event()).seq
                assert seen == written
            raise AssertionError("the stream went on")
    assert seen >= 1


async def test_a_cookie_opens_a_stream(guarded: Guarded) -> None:
    own = guarded.workspace()
    run = await own.create("r")
    session = await guarded.http.post(f"{guarded.query_url}/v1/session", headers=own.credentials)
    value = session.headers["set-cookie"].partition(";")[0].partition("=")[2]
    browser = Workspace(guarded.http, guarded.command_url, guarded.query_url, own.id, cookie(value))
    async with browser.stream("r") as stream:
        assert (await stream.event()).event_id == run["event_id"]


async def test_one_subject_has_so_many_streams(guarded: Guarded) -> None:
    own = guarded.workspace(sub="many")
    async with AsyncExitStack() as open_:
        for n in range(STREAMS_OF_ONE):
            await (await open_.enter_async_context(own.stream(f"r{n}"))).caught_up()
        # A new token does not help, another subject and another workspace are their own.
        for again in (own, guarded.workspace(own.id, sub="many", jti=fresh("jti"))):
            async with again.stream("r0", headers={"origin": ORIGIN}) as stream:
                assert stream.response.headers["access-control-allow-origin"] == ORIGIN
                assert await stream.item() == Control("busy", {"limit": "principal"})
                assert "retry: 5000" in stream.lines
                await ended(stream)
        for other in (guarded.workspace(own.id, sub="few"), guarded.workspace(sub="many")):
            async with other.stream("r0") as stream:
                await stream.caught_up()
    # Those that have ended count no more.
    async with AsyncExitStack() as open_:
        for n in range(STREAMS_OF_ONE):
            await (await open_.enter_async_context(own.stream(f"r{n}"))).caught_up()


async def test_the_head_of_a_stream_lets_the_page_read_it(guarded: Guarded) -> None:
    own = guarded.workspace()
    async with own.stream("r", headers={"origin": ORIGIN}) as stream:
        assert allowed(stream.response) == (ORIGIN, "true", "Origin")
    for headers in ({"origin": "https://evil.test"}, {}):
        async with own.stream("r", headers=headers) as stream:
            assert allowed(stream.response) == (None, None, "Origin")


def allowed(response: httpx.Response) -> tuple[str | None, str | None, str | None]:
    names = ("access-control-allow-origin", "access-control-allow-credentials", "vary")
    first, second, third = (response.headers.get(name) for name in names)
    return first, second, third


async def test_a_session_is_the_tokens_and_ends_with_it(guarded: Guarded) -> None:
    own = guarded.workspace(exp=int(time.time()) + 100)
    url = f"{guarded.query_url}/v1/session"

    opened = await guarded.http.post(url, headers=own.credentials)

    assert (opened.status_code, opened.content, opened.headers["cache-control"]) == (204, b"", "no-store")
    (set_cookie,) = opened.headers.get_list("set-cookie")
    pair, *attributes = set_cookie.split("; ")
    token = own.credentials["authorization"].partition(" ")[2]
    assert pair == f"{COOKIE}={token}"
    by_name = {name.lower(): value for name, _, value in (a.partition("=") for a in attributes)}
    assert by_name.keys() == {"path", "max-age", "secure", "httponly", "samesite"}
    assert (by_name["path"], by_name["samesite"].lower()) == ("/", "strict")
    assert 60 < int(by_name["max-age"]) <= 101

    closed = await guarded.http.delete(url)
    assert closed.status_code == 204
    (set_cookie,) = closed.headers.get_list("set-cookie")
    assert set_cookie.split("; ")[0].strip('"') in (f"{COOKIE}=", f'{COOKIE}="')
    assert "max-age=0" in set_cookie.lower()


async def test_a_token_that_no_browser_would_keep_sets_no_cookie(guarded: Guarded) -> None:
    own = guarded.workspace(padding="x" * 4000)
    answer = await guarded.http.post(f"{guarded.query_url}/v1/session", headers=own.credentials)
    expect.problem(answer, 400, "invalid_request")
    assert "set-cookie" not in answer.headers
