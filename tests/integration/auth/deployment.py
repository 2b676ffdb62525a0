"""What the tests know of the deployment: its URLs, the keys it accepts, and what a request looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.contract.client import Workspace, fresh
from tests.support.tokens import SigningKey, claims, signed

ISSUER = "https://issuer.test"
AUDIENCE = "runroom"
ORIGIN = "https://app.test"
COOKIE = "__Host-runroom"
STREAMS_OF_ONE = 3


@dataclass
class Guarded:
    """A stack that accepts tokens signed with ``rsa`` or ``ed25519``."""

    command_url: str
    query_url: str
    rsa: SigningKey
    ed25519: SigningKey
    logs: Path
    http: httpx.AsyncClient
    sent: set[str] = field(default_factory=set[str])
    """Every token that was made for it."""

    def token(self, key: SigningKey | None = None, **changed: Any) -> str:
        return self.noted(signed(key or self.rsa, claims(**{"iss": ISSUER, "aud": AUDIENCE} | changed)))

    def noted(self, token: str) -> str:
        self.sent.add(token)
        return token

    def url(self, service: str) -> str:
        return self.command_url if service == "command" else self.query_url

    def workspace(self, workspace_id: str | None = None, **changed: Any) -> Workspace:
        """A client of the contract's with a token for the workspace."""
        workspace_id = workspace_id or fresh("ws")
        token = self.token(workspace=workspace_id, **changed)
        return Workspace(self.http, self.command_url, self.query_url, workspace_id, bearer(token))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def cookie(token: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={token}"}
