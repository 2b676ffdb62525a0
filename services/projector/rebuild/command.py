"""``python -m services.projector rebuild runs|room_feed [--version N] [--changed] [--jobs N] | --drop-old``.

Invariant: it can be ended at any time and called again; it goes on with the version it had begun.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.places import Places
from services.projector.projections import PROJECTIONS
from services.projector.rebuild import jobs, versions
from services.projector.rebuild.afresh import Extents, known_extents, pages_to_compare
from services.projector.rebuild.compare import compare_with_old
from services.projector.rebuild.fill import NAME, Filled, Target, WrongRowsError
from services.projector.rebuild.progress import progress
from services.projector.rebuild.versions import Version
from services.projector.verify.report import CannotLookError, Report
from services.projector.verify.rooms import Page, pages
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamState, stream_state
from shared.postgres import FIND_THE_GONE, Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_CONNECT_SECONDS = 10.0
JOIN_SECONDS = 60.0
"""How long the workers may take to bring one more room up to the old version, and how long switching is tried."""
_FEW_ROOMS = 1000
_MOST_JOBS = 4

Say = Callable[[str], None]


class Order(NamedTuple):
    """``version`` is one that there is, or None for the one begun, or the next.

    ``changed``: it is meant to differ from the old one.
    """

    projection: str
    version: int | None
    changed: bool
    jobs: int
    drop_old: bool


class NotSwitchedError(Exception):
    """The old version is still what is read. The message says why."""


def parse_order(arguments: Sequence[str]) -> Order:
    """What the arguments after ``rebuild`` ask for. Ends the process, with status 2, when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m services.projector rebuild", allow_abbrev=False)
    parser.add_argument("projection", choices=PROJECTIONS)
    parser.add_argument(
        "--version", type=_number, help="the number of a version that there is: one that was read before, or was begun"
    )
    parser.add_argument("--changed", action="store_true", help="it is meant to differ from the version that is read")
    parser.add_argument(
        "--jobs", type=_number, default=min(os.cpu_count() or 1, _MOST_JOBS), help="processes that fill and compare"
    )
    parser.add_argument("--drop-old", action="store_true", help="drop every version but the one that is read")
    return Order(**vars(parser.parse_args(arguments)))


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


async def rebuild(order: Order, where: Places, say: Say) -> None:
    """The projection database is to be reached as the owner of its tables.

    Raises ``NotSwitchedError``, ``CannotLookError`` or one of ``STORE_ERRORS``.
    """
    async with connected(where.projection_dsn, NAME) as projections:
        # Nobody else can rebuild while it holds its lock, were it gone with its machine.
        await projections.execute(FIND_THE_GONE)
        if not await projections.fetchval(_SQL["rebuild_lock"], order.projection):
            raise NotSwitchedError(f"somebody else is rebuilding {order.projection}")
        if order.drop_old:
            await _drop_old(projections, order.projection, say)
            return
        async with connected(where.event_store_dsn, NAME) as store:
            active, new, begun = await _find(store, projections, order, where, say)
            target = Target(where.event_store_dsn, where.projection_dsn, order.projection, new.version, new.name)
            all_pages = [page async for page in pages(store)]
            filled: Filled | None = None
            if new.state == "building":
                filled = await _fill(store, projections, order, target, all_pages, say)
            extents = await known_extents(all_pages, projections, target, filled if begun else None)
            if new.state == "building":
                started = time.monotonic()
                try:
                    await versions.hand_over(store, projections, order.projection, new, active)
                except (asyncpg.ProgramLimitExceededError, asyncpg.CheckViolationError) as error:
                    await versions.drop(projections, order.projection, new)
                    raise NotSwitchedError(
                        f"{new.name} holds what its tables cannot hold: it is dropped; call this again"
                    ) from error
                say(f"indexed in {time.monotonic() - started:.1f} s; the workers go on from here")
            if new.state == "retired":
                await versions.revive(store, projections, new, active)
            await _join(store, projections, active, new, say)
            await _compare(projections, order, target, active, new, extents, say)
        deadline = time.monotonic() + JOIN_SECONDS
        while not await versions.switch(projections, order.projection, active, new):
            if time.monotonic() > deadline:
                raise NotSwitchedError(f"{new.name} did not come as far as {active.name} in time; call this again")
            await asyncio.sleep(0.2)
        say(f"switched to {new.name}; {active.name} is kept until it is dropped with --drop-old")


async def _find(
    store: Connection, projections: Connection, order: Order, where: Places, say: Say
) -> tuple[Version, Version, bool]:
    """The version that is read, the one to be switched to, and whether that was begun just now, as it was not yet."""
    schema = PROJECTIONS[order.projection].schema
    known = await versions.versions_of(projections, order.projection)
    active = next(version for version in known if version.state == "active")
    begun = next((version for version in known if version.state in ("building", "ready")), None)
    number = order.version or (begun.version if begun else known[0].version + 1)
    found = next((version for version in known if version.version == number), None)
    if order.version is not None and found is None:
        there = ", ".join(f"{version.version} ({version.state})" for version in known)
        raise NotSwitchedError(f"{order.projection} has no version {order.version}, but {there}")
    if found == active:
        raise NotSwitchedError(f"{active.name} is what is read already")
    if begun not in (None, found):
        raise NotSwitchedError(f"{begun.name} is {begun.state}: finish it, or drop it with --drop-old, first")
    if found is not None:
        if found.schema != schema:
            raise NotSwitchedError(
                f"{found.name} has tables of schema {found.schema}, and this release is for schema {schema}:"
                " use the release that made it, or drop it with --drop-old"
            )
        say(f"going on with {found.name}, which is {found.state}")
        return active, found, False
    new = Version(number, f"{order.projection}@{number}", "building", schema)
    await versions.begin(store, projections, order.projection, new, active, await _stream(where))
    return active, new, True


async def _stream(where: Places) -> StreamState:
    broker = Broker(where.nats_url, name=NAME, access=where.nats_access)
    broker.start()
    try:
        await broker.reach(_CONNECT_SECONDS)
        state = await stream_state(broker)
    except (BrokerUnavailableError, JetStreamError) as error:
        raise CannotLookError(f"the stream does not answer: {error}") from error
    finally:
        await broker.close()
    if state is None:
        raise CannotLookError("there is no stream")
    return state


async def _fill(
    store: Connection, projections: Connection, order: Order, target: Target, all_pages: Sequence[Page], say: Say
) -> Filled:
    total = await store.fetchval(_SQL["total_events"])
    done = await projections.fetchval(_SQL["filled_events"], target.name)
    started = time.monotonic()
    try:
        with progress(done, total, say) as show:
            filled = await jobs.fill(target, order.jobs, all_pages, show)
    except WrongRowsError as error:
        raise NotSwitchedError(f"{target.name} is not filled with what was folded: {error}") from error
    for key in filled.left:
        say(f"left to the workers: {key.workspace_id}/{key.room_id}")
    say(f"filled in {time.monotonic() - started:.1f} s")
    return filled


async def _join(store: Connection, projections: Connection, active: Version, new: Version, say: Say) -> None:
    if ahead := await versions.find_ahead(store, projections, active, new):
        say(f"{active.name} says of {ahead} rooms more than the event store has: nothing is to come as far")
    started = moved = time.monotonic()
    said = 0.0
    fewest: int | None = None
    while rooms := await versions.behind(projections, active.name, new.name):
        now = time.monotonic()
        if fewest is None or rooms < fewest:
            fewest, moved = rooms, now
        if now > moved + JOIN_SECONDS:
            raise NotSwitchedError(f"{rooms} rooms of {new.name} are behind {active.name}: is a projector running?")
        if now - said >= 1.0:
            said = now
            say(f"joining: {rooms} rooms are behind")
        if rooms < _FEW_ROOMS and now > started + 5.0:
            return  # under load there are always some; the switch sees to them
        await asyncio.sleep(0.25)


async def _compare(
    projections: Connection, order: Order, target: Target, active: Version, new: Version, extents: Extents, say: Say
) -> None:
    report = Report(say)
    started = time.monotonic()
    # Whoever goes back to an older version does so as the newer one is not right.
    if not order.changed and new.version > active.version:
        moving = await compare_with_old(projections, order.projection, active, new, report)
        if moving:
            say(f"{moving} rooms were moving all the time and are compared with the event store alone")
        say(f"compared with {active.name} in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    left = await pages_to_compare(projections, target, extents, report)
    checked = report.rooms
    await jobs.compare(target, order.jobs, left, report)
    say(f"compared {report.rooms - checked} rooms with the event store in {time.monotonic() - started:.1f} s")
    if not report.all_is_well:
        raise NotSwitchedError(
            f"{new.name} is not right: {report.differences} differences; it is kept to be looked at"
            " (--changed, if it is only meant to be another than the one that is read; otherwise --drop-old drops it,"
            " and the next rebuild begins another)"
        )
    say(f"verified {report.rooms} rooms, {report.events} events")


async def _drop_old(projections: Connection, projection: str, say: Say) -> None:
    """Drops every version but the one that is read."""
    for version in await versions.versions_of(projections, projection):
        if version.state != "active":
            await versions.drop(projections, projection, version)
            say(f"dropped {version.name}")
