"""How the suite says who is calling, by the contract's *Identity*.

Where AUTH_JWT_SECRET is set in the suite's environment the deployment has the same secret and asks for tokens, so each
workspace's client mints one; otherwise authentication is off, and a header names the workspace.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any

SUBJECT, ACTOR_TYPE = "contract-suite", "agent"
_LIFE_SECONDS = 3600


def is_on() -> bool:
    """Whether the deployment under test asks for tokens."""
    return bool(os.environ.get("AUTH_JWT_SECRET"))


def mint(workspace_id: str, **changed: Any) -> str:
    """Return a token for the workspace, good for an hour."""
    import jwt

    given = {
        "sub": SUBJECT, "actor_type": ACTOR_TYPE, "workspace": workspace_id, "scope": "runs:read runs:write",
        "exp": int(time.time()) + _LIFE_SECONDS, "iss": os.environ.get("AUTH_ISSUER"),
        "aud": os.environ.get("AUTH_AUDIENCE"),
    }  # fmt: skip
    claims = {name: value for name, value in (given | changed).items() if value}
    return jwt.encode(claims, os.environ["AUTH_JWT_SECRET"], algorithm="HS256")


def credentials(workspace_id: str) -> dict[str, str]:
    """Return the headers of a caller in the workspace."""
    if not is_on():
        return {"x-workspace-id": workspace_id}
    return {"authorization": f"Bearer {_kept(workspace_id, int(time.monotonic() // (_LIFE_SECONDS / 2)))}"}


@lru_cache(maxsize=10_000)
def _kept(workspace_id: str, _period: int) -> str:
    return mint(workspace_id)
