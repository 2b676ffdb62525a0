"""``python -m bench.noop``: the floor of an HTTP service in this stack, on ``NOOP_PORT``.

The same server, framework and body types as the services, and nothing behind them: a POST is decoded and answered, a
GET gives the bytes of the file ``NOOP_BODY``.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Response, get, post

from services.command.domain.batch import AcceptedBody
from services.command.http.bodies import CreateRunBody
from shared.http.health import health_routes
from shared.process import serve_process
from shared.serving import bind, serve

_answer = AcceptedBody(
    ok=True,
    run_id="run_01m84jzfr2e95v1yr6wdbnh1gj",
    event_id="01a2092f-bf02-724b-b0fb-06e48ee7cfbf",
    room_id="lobby",
    stream_seq=1,
    correlation_id="706b4f5c-ae37-4553-8f1d-534b65f55bed",
)
_body = Path(os.environ["NOOP_BODY"]).read_bytes() if "NOOP_BODY" in os.environ else b"{}"


@post("/v1/runs", status_code=201)
async def create_run(data: CreateRunBody) -> AcceptedBody:
    return _answer


@get("/v1/runs/{run_id:str}")
async def get_run(run_id: str) -> Response[bytes]:
    return Response(_body, media_type="application/json")


class Settings(msgspec.Struct, frozen=True):
    port: int
    log_level: str = "warning"
    log_format: str = "json"


async def run(settings: Settings) -> None:
    app = Litestar(
        route_handlers=[create_run, get_run, *health_routes({}, {})],
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    await serve(app, bind("127.0.0.1", settings.port))


def _settings(variables: Any) -> Settings:
    return Settings(int(variables["NOOP_PORT"]))


if __name__ == "__main__":
    sys.exit(serve_process("noop", _settings, run))
