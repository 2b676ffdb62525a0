"""Keys that the issuer publishes are accepted, and those that it withdraws are not, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import expect
from tests.support.tokens import SigningKey, ed25519_key, jwks

from .deployment import Guarded, bearer

PATIENCE = 20.0


@pytest.fixture
def published(folder: Path, keys: tuple[SigningKey, SigningKey]) -> Iterator[Path]:
    """The key set, which is as it was afterwards."""
    file = folder / "jwks.json"
    try:
        yield file
    finally:
        publish(file, *keys)


def publish(file: Path, *keys: SigningKey) -> None:
    draft = file.with_suffix(".new")
    draft.write_bytes(jwks(*keys))
    draft.rename(file)


async def until(guarded: Guarded, service: str, key: SigningKey, status: int) -> None:
    """Sends tokens that were never sent before, so that none of them is remembered."""
    method, path = ("POST", "/v1/runs/run_0/start") if service == "command" else ("GET", "/v1/runs")
    async with asyncio.timeout(PATIENCE):
        while True:
            credentials = bearer(guarded.token(key, workspace="ws_rotation"))
            answer = await guarded.http.request(method, guarded.url(service) + path, headers=credentials)
            if answer.status_code == status:
                return
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("service", ["command", "query"])
async def test_a_key_comes_and_goes(
    guarded: Guarded, published: Path, keys: tuple[SigningKey, SigningKey], service: str
) -> None:
    """What is refused after it has gone is a token of that very key: one of an unknown key would make anybody look."""
    fine = 404 if service == "command" else 200
    brief = ed25519_key("brief")
    publish(published, *keys, brief)
    await until(guarded, service, brief, fine)
    publish(published, *keys)
    await until(guarded, service, brief, 401)
    await until(guarded, service, keys[0], fine)


async def test_with_no_key_left_nobody_is_let_in(
    guarded: Guarded, published: Path, keys: tuple[SigningKey, SigningKey]
) -> None:
    ready = await guarded.http.get(f"{guarded.query_url}/readyz")
    assert ready.status_code == 200
    publish(published)
    await until(guarded, "query", keys[0], 401)
    answer = await guarded.http.get(f"{guarded.query_url}/readyz")
    assert answer.status_code == 503
    publish(published, *keys)
    await until(guarded, "query", keys[0], 200)
    expect.problem(await guarded.http.get(f"{guarded.query_url}/v1/runs"), 401, "missing_token")
