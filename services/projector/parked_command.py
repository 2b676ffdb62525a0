"""``python -m services.projector parked list|show|retry|skip``.

Invariant: it changes nothing that is projected. It writes down what is wanted; the worker that holds the partition does
it, and this waits for what came of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.projections import PROJECTIONS
from shared.contracts.ids import RoomKey, is_token
from shared.postgres import Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_NAME = "runroom-projector"
PATIENCE_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""For a statement of PostgreSQL's. None here takes long, and a connection may have gone silent."""
PORTION = 1000
"""Rows that a statement reads or changes, however many there are: it takes no long time, and locks few."""
MOST_WATCHED = 10_000
"""Parked events of which the command waits for what becomes of them."""
BY_KEY = "set enable_seqscan = off; set plan_cache_mode = force_custom_plan"
"""A portion is read by its bounds, whatever PostgreSQL takes the table for."""
_FIRST_SEQ = -(2**63)
_VERBS = ("list", "show", "retry", "skip")
PARKED_USAGE = """usage: python -m services.projector parked list [projection] [workspace/room]
       python -m services.projector parked show [projection] [workspace/room] [--payload]
       python -m services.projector parked retry projection [workspace/room]
       python -m services.projector parked skip projection workspace/room"""


Say = Callable[[str], None]
_Place = tuple[str, str, int]
"""Workspace, room and seq."""


class Wish(NamedTuple):
    """What was asked for on the command line; ``projection`` is one, or the name of a version of it."""

    verb: str
    projection: str | None
    room: RoomKey | None
    payload: bool


class NoWishError(Exception):
    """The arguments make no sense. The message says in a line what is wrong with them."""


def parse_wish(arguments: Sequence[str]) -> Wish:
    """What the arguments after ``parked`` ask for. Raises ``NoWishError``."""
    payload = "--payload" in arguments
    words = [argument for argument in arguments if argument != "--payload"]
    if not words or words[0] not in _VERBS:
        raise NoWishError(f"{words[0]!r} is none of {', '.join(_VERBS)}" if words else "what is to be done is missing")
    verb, *rest = words
    if option := next((word for word in rest if word.startswith("-") and "/" not in word), None):
        raise NoWishError(f"there is no option {option!r}")
    if payload and verb != "show":
        raise NoWishError(f"--payload is for show, not for {verb}")
    projection = rest.pop(0) if rest and "/" not in rest[0] else None
    if projection is not None and projection.partition("@")[0] not in PROJECTIONS:
        raise NoWishError(f"there is no projection {projection!r}: there are {', '.join(PROJECTIONS)}")
    room = _parse_room(rest.pop(0)) if rest else None
    if rest:
        raise NoWishError(f"{rest[0]!r} is one too many: it takes a projection and a room")
    if verb in ("retry", "skip") and projection is None:
        raise NoWishError(f"{verb} needs a projection: {' or '.join(PROJECTIONS)}")
    if verb == "skip" and room is None:
        raise NoWishError("skip needs a room, as workspace/room")
    return Wish(verb, projection, room, payload)


def _parse_room(text: str) -> RoomKey:
    workspace_id, slash, room_id = text.partition("/")
    if not slash:
        raise NoWishError(f"{text!r} has no workspace: a room is named as workspace/room")
    if not is_token(workspace_id) or not is_token(room_id):
        raise NoWishError(f"{text!r} is no room: one is named as workspace/room")
    return RoomKey(workspace_id, room_id)


async def parked(wish: Wish, projection_dsn: str, event_store_dsn: str, say: Say) -> bool:
    """Does what was asked for. Whether that is done. Raises one of ``STORE_ERRORS``."""
    async with connected(projection_dsn, _NAME, command_timeout=ANSWER_SECONDS) as projections:
        await projections.execute(BY_KEY)
        # A projection is the version of it that is read; another one is asked for by its own name.
        if wish.projection in PROJECTIONS:
            name = await projections.fetchval(_SQL["active_version"], wish.projection)
            wish = wish._replace(projection=name or wish.projection)
        if wish.verb == "list":
            await _list(projections, wish, say)
        elif wish.verb == "show":
            async with connected(event_store_dsn, _NAME, command_timeout=ANSWER_SECONDS) as store:
                await _show(projections, store, wish, say)
        else:
            return await _settle(projections, wish, say)
        return True


async def _portions(projections: Connection, wish: Wish) -> AsyncGenerator[list[asyncpg.Record], None]:
    """What is parked or was skipped of what was asked for, in the order of keys."""
    first, last = (wish.room, wish.room) if wish.projection and wish.room else (("", ""), (None, None))
    place = (wish.projection or "", *first, _FIRST_SEQ)
    while rows := await projections.fetch(_SQL["parked_events"], *place, wish.projection, *last, PORTION):
        yield [row for row in rows if wish.room in (None, (row["workspace_id"], row["room_id"]))]
        place = (rows[-1]["projection"], *_place(rows[-1]))


async def _events(projections: Connection, wish: Wish) -> AsyncGenerator[asyncpg.Record, None]:
    """The same one by one, open ones first. It is read twice, and never held."""
    for skipped in (False, True):
        async for rows in _portions(projections, wish):
            for row in rows:
                if (row["skipped_at"] is not None) is skipped:
                    yield row


async def _list(projections: Connection, wish: Wish, say: Say) -> None:
    count = 0
    async for row in _events(projections, wish):
        state = "skipped" if row["skipped_at"] else f"{row['wanted']} wanted" if row["wanted"] else "parked"
        kind = row["error"].partition(":")[0]
        say(f"{row['projection']}  {row['workspace_id']}/{row['room_id']}  event {row['stream_seq']}  {state}  {kind}")
        count += row["skipped_at"] is None
    say(f"{count} parked")


async def _show(projections: Connection, store: Connection, wish: Wish, say: Say) -> None:
    async for row in _events(projections, wish):
        place = _place(row)
        event = await store.fetchrow(_SQL["parked_event_source"], *place)
        waiting = await store.fetchval(_SQL["last_seq_of"], *place[:2])
        say(f"{row['projection']}  {row['workspace_id']}/{row['room_id']}  event {row['stream_seq']}")
        say(f"  error     {row['error']}")
        say(f"  parked    {row['parked_at']:%Y-%m-%d %H:%M:%S%z}, tried {row['attempts']} times, last")
        say(f"            {row['tried_at']:%Y-%m-%d %H:%M:%S%z}")
        if row["skipped_at"]:
            say(f"  skipped   {row['skipped_at']:%Y-%m-%d %H:%M:%S%z}")
        else:
            say(f"  waiting   {max((waiting or 0) - row['stream_seq'], 0)} events behind it")
        if row["wanted"]:
            say(f"  wanted    {row['wanted']}")
        if event is None:
            say("  event     is not in the event store")
            continue
        say(f"  event     {event['event_type']} version {event['event_version']}, id {event['event_id']}")
        say(f"  run       {event['run_id']}")
        say(f"  recorded  {event['recorded_at']:%Y-%m-%d %H:%M:%S%z}")
        if wish.payload:
            say(f"  payload   {event['envelope'].decode(errors='backslashreplace')}")


async def _settle(projections: Connection, wish: Wish, say: Say) -> bool:
    waiting: dict[_Place, int] = {}
    more = 0
    async for wanted in _wished(projections, wish):
        seen = wanted[: MOST_WATCHED - len(waiting)]
        waiting |= {_place(row): row["attempts"] for row in seen}
        more += len(wanted) - len(seen)
    if not waiting:
        say("nothing is parked there")
        return False
    well = True
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while waiting and loop.time() < deadline:
        await asyncio.sleep(0.1)
        keys = list(waiting)
        for first in range(0, len(keys), PORTION):
            columns = zip(*keys[first : first + PORTION], strict=True)
            for row in await projections.fetch(_SQL["parked_state"], wish.projection, *columns):
                place = _place(row)
                outcome = _outcome(row, place[2], waiting[place], wish.verb)
                if outcome is not None:
                    del waiting[place]
                    well = well and not outcome.startswith(("still", "taken out"))
                    say(f"{place[0]}/{place[1]}  event {place[2]}  {outcome}")
    for place in waiting:
        say(f"{place[0]}/{place[1]}  event {place[2]}  no worker has seen to it yet; it stays wanted")
    if more:
        say(f"{more} more are wanted: see what becomes of them with list")
    return well and not waiting and not more


async def _wished(projections: Connection, wish: Wish) -> AsyncGenerator[list[asyncpg.Record], None]:
    """Writes the wish beside what is open, and says of what. Each portion stands by itself."""
    async for rows in _portions(projections, wish):
        if places := [_place(row) for row in rows if row["skipped_at"] is None]:
            yield await projections.fetch(_SQL["parked_wish"], wish.projection, wish.verb, *places[0], *places[-1])


def _place(row: asyncpg.Record) -> _Place:
    return row["workspace_id"], row["room_id"], row["stream_seq"]


def _outcome(row: asyncpg.Record, seq: int, attempts: int, verb: str) -> str | None:
    """What came of a wish, or None while nothing did."""
    if row["attempts"] is None:
        if row["applied_seq"] < seq:
            return "taken out: it is not in the event store, or not where it was parked"
        return "applied; the room goes on"
    if row["is_skipped"]:
        return "skipped; the room goes on"
    if verb == "retry" and row["attempts"] > attempts:
        return f"still cannot be applied: {row['error']}"
    return None
