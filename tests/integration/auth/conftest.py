"""One deployment with authentication on for this folder's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local.settings import LocalSettings
from deploy.local.stack import LocalStack
from tests.support.tokens import SigningKey, ed25519_key, jwks, rsa_key

from .deployment import AUDIENCE, ISSUER, ORIGIN, STREAMS_OF_ONE, Guarded


@pytest.fixture(scope="session")
def keys() -> tuple[SigningKey, SigningKey]:
    return rsa_key("rsa-1"), ed25519_key("ed-1")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="session")
def stack(folder: Path, keys: tuple[SigningKey, SigningKey]) -> Iterator[LocalStack]:
    (folder / "jwks.json").write_bytes(jwks(*keys))
    variables = {
        "AUTH_JWKS": str(folder / "jwks.json"),
        "AUTH_ISSUER": ISSUER,
        "AUTH_AUDIENCE": AUDIENCE,
        "CORS_ORIGINS": f"{ORIGIN}, http://localhost:5173",
        "STREAM_LIMIT_PRINCIPAL": str(STREAMS_OF_ONE),
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
    }
    stack = LocalStack(LocalSettings(data_dir=folder / "data"), variables=variables)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
async def guarded(stack: LocalStack, folder: Path, keys: tuple[SigningKey, SigningKey]) -> AsyncIterator[Guarded]:
    limits = httpx.Limits(max_connections=100, keepalive_expiry=2)
    async with httpx.AsyncClient(timeout=40, trust_env=False, limits=limits) as http:
        yield Guarded(stack.command_url, stack.query_url, *keys, folder / "data" / "logs", http)
