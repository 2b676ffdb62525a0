"""``python -m services.projector rebuild runs|room_feed [--version N] [--changed] [--drop-old]``.

Invariant: it can be ended at any time and called again; it goes on with the version it had begun.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from services.projector.projections import PROJECTIONS
from services.projector.rebuild import versions
from services.projector.rebuild.compare import compare_with_old, compare_with_store
from services.projector.rebuild.fill import Fill, Target
from services.projector.rebuild.versions import Version
from services.projector.verify.report import CannotLookError, Report
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamState, stream_state
from shared.postgres import Connection, connect, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_NAME = "runroom-projector"
_CONNECT_SECONDS = 10.0
JOIN_SECONDS = 60.0
"""How long the workers may take to bring a filled version up to the old one, and how long switching is tried."""
_ROUNDS = 20
_FEW_ROOMS = 1000

REBUILD_USAGE = "usage: python -m services.projector rebuild runs|room_feed [--version N] [--changed] | --drop-old"

Say = Callable[[str], None]


class Order(NamedTuple):
    """``version`` is None for the one begun, or the next; ``changed``: it is meant to differ from the old one."""

    projection: str
    version: int | None
    changed: bool
    drop_old: bool


class NotSwitchedError(Exception):
    """The old version is still what is read. The message says why."""


class Databases(NamedTuple):
    event_store_dsn: str
    projection_dsn: str
    nats_url: str


def parse_order(arguments: Sequence[str]) -> Order | None:
    """The arguments after ``rebuild``, or None when they make no sense."""
    match list(arguments):
        case [("runs" | "room_feed") as projection, *rest]:
            pass
        case _:
            return None
    version: int | None = None
    if "--version" in rest:
        at = rest.index("--version")
        if at + 1 >= len(rest) or not rest[at + 1].isdecimal() or int(rest[at + 1]) < 1:
            return None
        version = int(rest[at + 1])
        del rest[at : at + 2]
    if set(rest) - {"--changed", "--drop-old"}:
        return None
    return Order(projection, version, "--changed" in rest, "--drop-old" in rest)


async def rebuild(order: Order, where: Databases, say: Say) -> None:
    """Raises ``NotSwitchedError``, ``CannotLookError`` or one of ``STORE_ERRORS``."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(dsn: str) -> Connection:
            connection = await connect(dsn, _NAME)
            stack.push_async_callback(connection.close)
            return connection

        projections = await opened(where.projection_dsn)
        if not await projections.fetchval(_SQL["rebuild_lock"], order.projection):
            raise NotSwitchedError(f"somebody else is rebuilding {order.projection}")
        if order.drop_old:
            await _drop_old(projections, order.projection, say)
            return
        store = await opened(where.event_store_dsn)
        active, new = await _find(projections, order, where.nats_url, say)
        if new.state == "building":
            await _fill(store, projections, order.projection, active, new, say)
        await _join(projections, active, new, say)
        # Sees the new version in the old one's place once it was compared, and is of no other use afterwards.
        await _compare(order, store, await opened(where.projection_dsn), active, new, say)
        deadline = time.monotonic() + JOIN_SECONDS
        while not await versions.switch(projections, order.projection, active, new):
            if time.monotonic() > deadline:
                raise NotSwitchedError(f"{new.name} did not come as far as {active.name} in time; call this again")
            await asyncio.sleep(0.2)
        say(f"switched to {new.name}; {active.name} is kept until it is dropped with --drop-old")


async def _find(projections: Connection, order: Order, nats_url: str, say: Say) -> tuple[Version, Version]:
    """The version that is read, and the one to be built, begun if it was not."""
    known = await versions.versions_of(projections, order.projection)
    active = next(version for version in known if version.state == "active")
    begun = [version for version in known if version.state in ("building", "ready")]
    number = order.version or (begun[0].version if begun else known[0].version + 1)
    found = next((version for version in known if version.version == number), None)
    if found is not None:
        if found.state not in ("building", "ready"):
            raise NotSwitchedError(f"version {number} of {order.projection} is {found.state} already")
        say(f"going on with {found.name}, which is {found.state}")
        return active, found
    if begun:
        raise NotSwitchedError(f"{begun[0].name} is {begun[0].state}: finish it, or drop it with --drop-old, first")
    await versions.begin(projections, order.projection, number, await _stream(nats_url))
    known = await versions.versions_of(projections, order.projection)
    return active, next(version for version in known if version.version == number)


async def _stream(nats_url: str) -> StreamState:
    broker = Broker(nats_url, name=_NAME)
    broker.start()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await broker.wait_connected()
        state = await stream_state(broker)
    except (BrokerUnavailableError, JetStreamError, TimeoutError) as error:
        raise CannotLookError(f"the stream does not answer: {error}") from error
    finally:
        await broker.close()
    if state is None:
        raise CannotLookError("there is no stream")
    return state


async def _fill(
    store: Connection, projections: Connection, projection: str, active: Version, new: Version, say: Say
) -> None:
    skips = [(row[0], row[1], row[2]) for row in await projections.fetch(_SQL["skips_of"], active.name)]
    module = next(module for module in PROJECTIONS if module.name == projection)
    started = time.monotonic()
    fill = Fill(store, projections, Target(module, new.version, new.name), skips, say)
    await fill.run(new.after, new.events)
    await versions.hand_over(projections, new.name, active.name)
    for view in versions.VIEWS[projection]:
        await projections.execute(f"analyze {view}_v{new.version}")
    say(f"filled in {time.monotonic() - started:.1f} s; the workers go on from here")


async def _join(projections: Connection, active: Version, new: Version, say: Say) -> None:
    deadline = time.monotonic() + JOIN_SECONDS
    said = 0.0
    while rooms := await versions.behind(projections, active.name, new.name):
        now = time.monotonic()
        if now > deadline:
            raise NotSwitchedError(f"{rooms} rooms of {new.name} are behind {active.name}: is a projector running?")
        if now - said >= 1.0:
            said = now
            say(f"joining: {rooms} rooms are behind")
        if rooms < _FEW_ROOMS and now > deadline - JOIN_SECONDS + 5.0:
            return  # under load there are always some; the switch sees to them
        await asyncio.sleep(0.25)


async def _compare(
    order: Order, store: Connection, projections: Connection, active: Version, new: Version, say: Say
) -> None:
    report = Report(say)
    if not order.changed:
        unequal = 0
        old_place, new_place = (active.name, active.version), (new.name, new.version)
        for _ in range(_ROUNDS):
            unequal = await compare_with_old(store, projections, old_place, new_place, report)
            if not unequal or not report.all_is_well:
                break
            await asyncio.sleep(0.25)
        if unequal:
            say(f"{unequal} rooms were moving all the time and are compared with the event store alone")
    await compare_with_store(store, projections, new.name, new.version, report)
    if not report.all_is_well:
        raise NotSwitchedError(f"{new.name} is not right: {report.differences} differences; it is kept to be looked at")
    say(f"verified {report.rooms} rooms, {report.events} events")


async def _drop_old(projections: Connection, projection: str, say: Say) -> None:
    """Drops every version but the one that is read."""
    for version in await versions.versions_of(projections, projection):
        if version.state != "active":
            await versions.drop(projections, projection, version)
            say(f"dropped {version.name}")
