"""Which pages may read answers: those of the origins that were set, and no others."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.support.servers import REPOSITORY

from .deployment import ORIGIN, Guarded

OTHERS = [
    "https://evil.test", "https://app.test.evil.test", "https://evil-app.test", "http://app.test", "https://app.test:8443",
    "https://APP.test", "null", "*", "https://app.test,https://evil.test", "",
]  # fmt: skip
ASKED = "authorization, content-type, idempotency-key, last-event-id, x-workspace-id"


@pytest.fixture(params=["command", "query"])
def base_url(request: pytest.FixtureRequest, guarded: Guarded) -> str:
    return guarded.url(request.param)


def granted(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


async def preflight(guarded: Guarded, url: str, origin: str, method: str) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": ASKED}
    return await guarded.http.options(url, headers=headers)


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/streams/rooms/r", "/v1/session", "/nowhere"])
async def test_a_preflight_needs_no_token(guarded: Guarded, base_url: str, path: str) -> None:
    for origin in (ORIGIN, "http://localhost:5173"):
        answer = await preflight(guarded, base_url + path, origin, "POST")
        assert answer.status_code == 204
        given = granted(answer)
        assert given["access-control-allow-origin"] == origin
        assert given["access-control-allow-credentials"] == "true"
        assert {"GET", "POST", "DELETE"} <= set(given["access-control-allow-methods"].split(", "))
        assert set(ASKED.split(", ")) <= set(given["access-control-allow-headers"].split(", "))
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", OTHERS)
async def test_no_other_origin_is_named(guarded: Guarded, base_url: str, origin: str) -> None:
    answers = [
        await preflight(guarded, f"{base_url}/v1/runs", origin, "POST"),
        await guarded.http.get(f"{base_url}/healthz", headers={"origin": origin}),
        await guarded.http.get(f"{base_url}/v1/runs", headers={"origin": origin}),
    ]
    for answer in answers:
        assert not granted(answer)
        assert answer.headers["vary"] == "Origin"


async def test_errors_can_be_read_too(guarded: Guarded, base_url: str) -> None:
    own = guarded.workspace()
    answers = {
        401: await guarded.http.post(f"{base_url}/v1/runs", headers={"origin": ORIGIN}),
        404: await guarded.http.get(f"{base_url}/nowhere", headers={"origin": ORIGIN}),
        405: await guarded.http.put(f"{base_url}/v1/runs", headers={"origin": ORIGIN, **own.credentials}),
    }
    if base_url == guarded.query_url:
        answers[401] = await guarded.http.get(f"{base_url}/v1/runs", headers={"origin": ORIGIN})
    for status, answer in answers.items():
        assert answer.status_code == status
        assert granted(answer)["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"GET /v1/runs HTTP/1.1\r\n%b\r\n", 400),
        (b"GET /v1/runs?room_id=%b HTTP/1.1\r\nHost: h\r\n%%b\r\n" % (b"r" * 40_000), 414),
        (b"GET /v1/runs HTTP/1.1\r\nHost: h\r\n%%bX-A: %b\r\n\r\n" % (b"a" * 70_000), 431),
        (b"POST /v1/runs HTTP/1.1\r\nHost: h\r\n%bTransfer-Encoding: chunked\r\n\r\nno size\r\n", 400),
    ],
    ids=["no host", "a long URI", "a large head", "a bad chunk"],
)
async def test_what_is_said_past_the_application_can_be_read_too(
    guarded: Guarded, base_url: str, rest: bytes, status: int
) -> None:
    async def told(origin: str) -> list[str]:
        sent = rest % b"Origin: %b\r\n" % origin.encode()
        url = httpx.URL(base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        async with asyncio.timeout(10):
            first, *head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        writer.close()
        assert first.split()[1] == str(status)
        assert "vary: Origin" in head
        return head

    assert f"access-control-allow-origin: {ORIGIN}" in await told(ORIGIN)
    assert not [line for line in await told("https://evil.test") if line.startswith("access-control-")]


async def test_what_the_contract_has_clients_read_is_exposed(guarded: Guarded) -> None:
    answer = await guarded.workspace().post("/v1/runs", {"room_id": "r"}, headers={"origin": ORIGIN})
    assert answer.status_code == 201
    exposed = {name.lower() for name in granted(answer)["access-control-expose-headers"].split(", ")}
    contract = (REPOSITORY / "docs/contract.md").read_text()
    readable = contract.partition("may call it with credentials and read ")[2].partition(".\n")[0]
    assert exposed == {name.lower() for name in re.findall(r"`(.+?)`", readable)}
