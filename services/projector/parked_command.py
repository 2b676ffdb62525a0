"""``python -m services.projector parked list|show|retry|skip``.

Invariant: it changes nothing that is projected. It writes down what is wanted; the worker that holds the partition does
it, and this waits for what came of it.
"""

import asyncio
from collections.abc import Callable, Sequence
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
_VERBS = ("list", "show", "retry", "skip")
PARKED_USAGE = """usage: python -m services.projector parked list [projection] [workspace/room]
       python -m services.projector parked show [projection] [workspace/room] [--payload]
       python -m services.projector parked retry projection [workspace/room]
       python -m services.projector parked skip projection workspace/room"""


Say = Callable[[str], None]


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


async def _events(projections: Connection, wish: Wish) -> list[asyncpg.Record]:
    workspace_id, room_id = wish.room or (None, None)
    return await projections.fetch(_SQL["parked_events"], wish.projection, workspace_id, room_id)


async def _list(projections: Connection, wish: Wish, say: Say) -> None:
    rows = await _events(projections, wish)
    for row in rows:
        state = "skipped" if row["skipped_at"] else f"{row['wanted']} wanted" if row["wanted"] else "parked"
        kind = row["error"].partition(":")[0]
        say(f"{row['projection']}  {row['workspace_id']}/{row['room_id']}  event {row['stream_seq']}  {state}  {kind}")
    say(f"{sum(row['skipped_at'] is None for row in rows)} parked")


async def _show(projections: Connection, store: Connection, wish: Wish, say: Say) -> None:
    for row in await _events(projections, wish):
        place = (row["workspace_id"], row["room_id"], row["stream_seq"])
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
    workspace_id, room_id = wish.room or (None, None)
    wanted = await projections.fetch(_SQL["parked_wish"], wish.projection, workspace_id, room_id, wish.verb)
    if not wanted:
        say("nothing is parked there")
        return False
    waiting = {(row["workspace_id"], row["room_id"], row["stream_seq"]): row["attempts"] for row in wanted}
    well = True
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while waiting and loop.time() < deadline:
        await asyncio.sleep(0.1)
        for place, attempts in list(waiting.items()):
            (row,) = await projections.fetch(_SQL["parked_state"], wish.projection, *place)
            outcome = _outcome(row, place[2], attempts, wish.verb)
            if outcome is not None:
                del waiting[place]
                well = well and not outcome.startswith(("still", "taken out"))
                say(f"{place[0]}/{place[1]}  event {place[2]}  {outcome}")
    for place in waiting:
        say(f"{place[0]}/{place[1]}  event {place[2]}  no worker has seen to it yet; it stays wanted")
    return well and not waiting


def _outcome(row: asyncpg.Record, seq: int, attempts: int, verb: str) -> str | None:
    """What came of a wish, or None while nothing did."""
    if row["attempts"] is None:
        if row["applied_seq"] < seq:
            return "taken out: it is not in the event store, or not where it was parked"
        return "applied; the room goes on"
    if row["skipped"]:
        return "skipped; the room goes on"
    if verb == "retry" and row["attempts"] > attempts:
        return f"still cannot be applied: {row['error']}"
    return None
