"""The commands of ``python -m services.projector`` beside the worker itself: for a person at a terminal.

Invariant: what they print is plain text that holds no payload unless it was asked for, and their exit status says
how it went.

A worker's own rights are enough for all but ``rebuild``, which makes and drops tables: ``PROJECTION_OWNER_DSN`` names
the projection database as its owner reaches it, where that is another role than the workers'.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from services.projector.parked_command import PARKED_USAGE, NoWishError, parked, parse_wish
from services.projector.places import Places
from services.projector.rebuild.command import NotSwitchedError, parse_order, rebuild
from services.projector.rebuild.jobs import JobEndedError
from services.projector.verify.command import verify
from services.projector.verify.report import CannotLookError, Report
from shared.messaging.access import read_nats_access, read_nats_url
from shared.postgres import STORE_ERRORS, read_dsn
from shared.printable import printable
from shared.settings import Environment, SettingsError
from shared.telemetry import configure_logging

_T = TypeVar("_T")

WELL, DIFFERENT, BLIND = 0, 1, 2


def say(line: str) -> None:
    """Prints one line. It may be of rows that anybody wrote. When nobody reads any more (``| head``), it is dropped."""
    try:
        print(printable(line), flush=True)  # noqa: T201
    except BrokenPipeError:
        # What is under way goes on to its end, and the exit status says how it went.
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def complain(line: str) -> None:
    """Prints what is wrong, in several lines if need be."""
    print("\n".join(map(printable, line.split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


def run_verify() -> int:
    """The exit status."""
    env = Environment(os.environ)
    where = _places(env)
    try:
        env.finish()
    except SettingsError as error:
        complain(str(error))
        return BLIND
    configure_logging("projector", "error", env.text("LOG_FORMAT", "auto"))
    try:
        well = _run(lambda: verify(where, Report(say)))
    except CannotLookError as error:
        complain(f"cannot look: {error}")
        return BLIND
    return WELL if well else DIFFERENT


def run_parked(arguments: Sequence[str]) -> int:
    """The exit status: 0 done, 1 not done or not yet, 2 wrong arguments or a database that does not answer."""
    try:
        wish = parse_wish(arguments)
    except NoWishError as error:
        complain(f"{error}\n{PARKED_USAGE}")
        return BLIND
    env = Environment(os.environ)
    projection_dsn = read_dsn(env, "PROJECTION_DSN")
    event_store_dsn = read_dsn(env, "EVENT_STORE_DSN") if wish.verb == "show" else ""
    try:
        env.finish()
    except SettingsError as error:
        complain(str(error))
        return BLIND
    try:
        return WELL if _run(lambda: parked(wish, projection_dsn, event_store_dsn, say)) else DIFFERENT
    except STORE_ERRORS as error:
        complain(f"the database does not answer: {type(error).__name__}: {error}")
        return BLIND


def run_rebuild(arguments: Sequence[str]) -> int:
    """The exit status: 0 switched or dropped, 1 not switched, 2 wrong arguments or something does not answer."""
    order = parse_order(arguments)
    env = Environment(os.environ)
    where = _places(env)
    if owner_dsn := read_dsn(env, "PROJECTION_OWNER_DSN", ""):
        where = where._replace(projection_dsn=owner_dsn)
    try:
        env.finish()
    except SettingsError as error:
        complain(str(error))
        return BLIND
    configure_logging("projector", "error", env.text("LOG_FORMAT", "auto"))
    try:
        _run(lambda: rebuild(order, where, say))
    except (NotSwitchedError, JobEndedError) as error:
        complain(f"not switched: {error}")
        return DIFFERENT
    except (CannotLookError, *STORE_ERRORS) as error:
        complain(f"not switched: {type(error).__name__}: {error}")
        return BLIND
    return WELL


def _places(env: Environment) -> Places:
    nats_url = read_nats_url(env)
    return Places(
        read_dsn(env, "EVENT_STORE_DSN"),
        read_dsn(env, "PROJECTION_DSN"),
        nats_url,
        read_nats_access(env, nats_url),
    )


def _run(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    # Ctrl-C ends the process, as SIGTERM does, and PostgreSQL takes back what was under way. Who is cancelled waits for
    # PostgreSQL to say so, and that may be what it is ended for: a connection that went silent.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
