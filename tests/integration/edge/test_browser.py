"""A browser's own EventSource, through the edge, with the session cookie: whatever breaks, it sees everything once.

Real Chromium on a page of the edge's origin. It resumes by itself: nothing here loads the page or opens a stream again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from deploy.local import LocalStack
from deploy.local.ports import free_port
from tests.contract.client import Workspace
from tests.support.edge import PAGES, Edge

from .services import query_of, ready_again

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHOUT_CHROMIUM = "no Chromium is installed (Debian: apt-get install chromium)"
COOKIE = "__Host-runroom"
DEADLINE = 60.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT_CHROMIUM)

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    # It asks for nothing beyond this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page at the edge's origin, and nothing else but what there is by default."""
    file = tmp_path_factory.mktemp("pages") / "pages.conf"
    page = Path(__file__).with_name("watch.html")
    file.write_text(
        f'location = /watch.html {{ types {{ }} default_type text/html; alias "{page}"; }}\n{PAGES.read_text()}'
    )
    return file


@pytest.fixture(scope="module")
def elsewhere(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Another origin of the same site: it has the page, and no services."""
    nobody = [f"127.0.0.1:{free_port()}"]
    server = Edge(tmp_path_factory.mktemp("elsewhere") / "nginx", command=nobody, query=nobody, pages=pages)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def origins(elsewhere: Edge) -> str:
    return f"https://app.test, {elsewhere.url}"


@pytest.fixture(scope="module")
async def chromium(edge: Edge, elsewhere: Edge, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """It trusts these certificates alone, not whatever it is shown."""
    known = ",".join(server.certificates.server_spki for server in (edge, elsewhere))
    trust = f"--ignore-certificate-errors-spki-list={known}"
    home = str(tmp_path_factory.mktemp("home"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*_ARGUMENTS, trust],
            env={"HOME": home, "TMPDIR": home, "PATH": os.environ["PATH"]},
            chromium_sandbox=False,
        )
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def browser(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """A profile nobody has used before."""
    context = await chromium.new_context()
    try:
        yield context
    finally:
        await context.close()


@pytest.fixture
async def page(browser: BrowserContext, edge: Edge) -> Page:
    """A page of the edge's origin, which came over HTTP/2."""
    page = await browser.new_page()
    await page.goto(f"{edge.url}/watch.html")
    assert await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    return page


@pytest.fixture
async def signed_in(page: Page, browser: BrowserContext, token: str) -> Page:
    """The page with the session cookie, which its scripts cannot read."""
    assert await page.evaluate("token => session('POST', token)", token) == 204
    (cookie,) = await browser.cookies()
    assert (cookie.get("name"), cookie.get("value")) == (COOKIE, token)
    assert (cookie.get("httpOnly"), cookie.get("secure"), cookie.get("sameSite")) == (True, True, "Strict")
    assert await page.evaluate("document.cookie") == ""
    return page


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await holds():
            await asyncio.sleep(0.05)


async def has_seen(page: Page, count: int) -> None:
    await until(lambda: page.evaluate("count => seen.length >= count", count))


async def seen(page: Page) -> list[int]:
    """Positions in the order in which they were seen; each frame's id is that of the event in it."""
    pairs: list[list[int]] = await page.evaluate("seen")
    assert all(frame == event for frame, event in pairs)
    return [event for _, event in pairs]


async def test_history_and_what_happens_then(signed_in: Page, workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    await signed_in.evaluate("room => watch(room)", room)
    await until(lambda: signed_in.evaluate("named.includes('caught-up')"))
    for last in range(3, 8):
        await workspace.step(run["run_id"])
        await has_seen(signed_in, last)
    assert await seen(signed_in) == list(range(1, 8))
    assert await signed_in.evaluate("opened") == [0]


async def service_killed(stack: LocalStack, edge: Edge, page: Page) -> None:
    """While nobody is there the browser comes at least once, and must not give up."""
    query_of(stack).kill()
    try:
        await until(lambda: page.evaluate("named.includes('busy')"))
    finally:
        await ready_again(query_of(stack))


async def service_restarted(stack: LocalStack, edge: Edge, page: Page) -> None:
    query_of(stack).stop()
    await ready_again(query_of(stack))


async def edge_reloaded(stack: LocalStack, edge: Edge, page: Page) -> None:
    before = edge.workers
    edge.ask_to_reload()
    async with asyncio.timeout(DEADLINE):
        while edge.workers & before:
            await asyncio.sleep(0.05)


async def edge_restarted(stack: LocalStack, edge: Edge, page: Page) -> None:
    """For a moment nobody listens at all."""
    edge.stop()
    await until(lambda: page.evaluate("source.readyState === EventSource.CONNECTING"))
    await asyncio.sleep(2.5)
    edge.start()


async def offline(stack: LocalStack, edge: Edge, page: Page) -> None:
    """The connection is cut from afar, and there is no way out until later."""
    await page.context.set_offline(True)
    edge.stop()
    edge.start()
    await until(lambda: page.evaluate("source.readyState === EventSource.CONNECTING"))
    await asyncio.sleep(2.5)
    await page.context.set_offline(False)


@pytest.mark.parametrize("fault", [service_killed, service_restarted, edge_reloaded, edge_restarted, offline])
async def test_it_resumes_by_itself_and_sees_everything_once(
    fault: Callable[[LocalStack, Edge, Page], Awaitable[None]],
    signed_in: Page,
    stack: LocalStack,
    edge: Edge,
    workspace: Workspace,
    room: str,
) -> None:
    """Events go on all the while, past the edge, so that they do not wait for it."""
    assert stack.command is not None
    past = Workspace(workspace.http, stack.command.url, stack.command.url, workspace.id)
    run = await past.running(room)
    posted = run["stream_seq"]

    async def post() -> None:
        nonlocal posted
        while True:
            posted = (await past.step(run["run_id"]))["stream_seq"]
            await asyncio.sleep(0.03)

    await signed_in.evaluate("room => watch(room)", room)
    await has_seen(signed_in, 2)
    posting = asyncio.create_task(post())
    try:
        await has_seen(signed_in, 10)
        await fault(stack, edge, signed_in)
        await until(lambda: signed_in.evaluate("opened.length > 1"))
        await has_seen(signed_in, posted + 10)
    finally:
        posting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await posting
    last: dict[str, Any] = await past.complete(run["run_id"])
    await has_seen(signed_in, last["stream_seq"])
    assert await seen(signed_in) == list(range(1, last["stream_seq"] + 1))
    assert "reset" not in await signed_in.evaluate("named")
    # It went on from where it was.
    assert (await signed_in.evaluate("opened"))[-1] > 0


async def test_a_page_of_another_origin_does_not_give_up_either(
    browser: BrowserContext, elsewhere: Edge, edge: Edge, stack: LocalStack, workspace: Workspace, token: str, room: str
) -> None:
    """It would at an answer that it may not read, and the edge's own is one of those it gets."""
    page = await browser.new_page()
    await page.goto(f"{elsewhere.url}/watch.html")
    assert await page.evaluate("([token, edge]) => session('POST', token, edge)", [token, edge.url]) == 204
    run = await workspace.running(room)
    await page.evaluate("([room, edge]) => watch(room, edge)", [room, edge.url])
    await has_seen(page, 2)
    await service_killed(stack, edge, page)
    await workspace.complete(run["run_id"])
    await has_seen(page, 3)
    assert await seen(page) == [1, 2, 3]


async def test_without_the_cookie_there_is_nothing_to_see(page: Page, workspace: Workspace, room: str) -> None:
    await workspace.running(room)
    await page.evaluate("room => watch(room)", room)
    await until(lambda: page.evaluate("source.readyState === EventSource.CLOSED"))
    assert await seen(page) == []


async def test_signed_out_is_signed_out(
    signed_in: Page, browser: BrowserContext, workspace: Workspace, room: str
) -> None:
    await workspace.running(room)
    assert await signed_in.evaluate("session('DELETE')") == 204
    assert await browser.cookies() == []
    await signed_in.evaluate("room => watch(room)", room)
    await until(lambda: signed_in.evaluate("source.readyState === EventSource.CLOSED"))
    assert await seen(signed_in) == []


async def test_a_body_too_large_is_a_problem(page: Page) -> None:
    """Over HTTP/2 the answer comes while the body is still on its way, which httpx does not see."""
    answer = await page.evaluate("""async () => {
        const answer = await fetch("/v1/runs", {method: "POST", body: "x".repeat(3 << 20)});
        return [answer.status, answer.headers.get("content-type"), (await answer.json()).error];
    }""")
    assert answer == [413, "application/problem+json", "body_too_large"]
