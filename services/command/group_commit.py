"""Group commit: whatever arrived while the last transaction was in flight is the next one.

Invariant: a command's future is resolved with success only after its event is committed. When the outcome of a commit
is unknown it is settled by looking for the event under the room's lock, never by guessing. A room that somebody else
keeps locked keeps its own commands waiting, and no others.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
import structlog

from services.command import event_store, metrics
from services.command.domain.batch import Accepted, Loaded, NewEvent, Outcome, Plan, plan
from services.command.domain.commands import CreateRun
from services.command.domain.decide import Ids
from services.command.known_rooms import KnownRooms
from services.command.loader import Loader
from services.command.run_rooms import RunRooms
from services.command.submissions import (
    BatchCrashedError,
    MisnumberedRoomError,
    NotStorableError,
    StoreUnavailableError,
    Submission,
    Submissions,
)
from shared import tracing
from shared.contracts.ids import RoomKey
from shared.postgres import STORE_ERRORS, Connection, connect
from shared.telemetry import LineBudget, Logger

_RACES = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    event_store.KeyRaceError,
)
"""The batch was rolled back for standing in another's way: the same again will do."""

_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""The store is well and will not have something in the batch."""

_misnumbered = LineBudget(10)

_MOST_RACES = 20
_RECONNECT_SECONDS = 0.1
_PATIENT_SHARE = 0.1
"""Of the store timeout, how long a batch waits for a room that somebody else has locked."""
_BUSY_PAUSE_SECONDS = 0.1
"""How often it is then asked for without waiting."""


class GroupCommitSettings(NamedTuple):
    dsn: str
    batch_commands: int
    queue_commands: int
    queue_bytes: int
    store_timeout: float
    keep_outcomes: timedelta


class GroupCommit:
    """The single writer of this process. ``run`` works until cancelled.

    ``committed`` gets the events of each commit, in the order of the commits.
    """

    def __init__(
        self, settings: GroupCommitSettings, ids: Ids, committed: Callable[[Sequence[NewEvent]], None]
    ) -> None:
        self._settings = settings
        self._ids = ids
        self._committed = committed
        self._waiting = Submissions(
            most_commands=settings.queue_commands,
            most_bytes=settings.queue_bytes,
            batch_commands=settings.batch_commands,
            patience=settings.store_timeout,
        )
        self.submit, self.expecting = self._waiting.submit, self._waiting.expecting
        """How commands come in: those of ``Submissions``."""
        self._connection: Connection | None = None
        self._run_rooms = RunRooms()
        self._loader = Loader(self._run_rooms)
        self._known = KnownRooms()
        self._store_is_well = True
        self._log: Logger = structlog.get_logger("group_commit")

    async def run(self) -> None:
        try:
            while True:
                await self._waiting.arrived()
                # Not by a name, which would hold the last batch until the next.
                await self._process(self._waiting.take())
        finally:
            self._waiting.fail(StoreUnavailableError())
            self._disconnect()

    async def _process(self, batch: list[Submission]) -> None:
        """Sees every command of the batch to an outcome or a failure."""
        if not batch:  # all have left
            return
        metrics.BATCH_SIZE.observe(len(batch))
        races = 0
        # Those that are done have waited too long: their callers have been told so.
        while batch := [submission for submission in batch if not submission.future.done()]:
            try:
                async with asyncio.timeout(self._settings.store_timeout):
                    await self._attempt(batch)
            except _RACES as error:
                _cut_off(error)
                races += 1
                self._log.info("batch_raced", error=type(error).__name__, commands=len(batch))
                if races >= _MOST_RACES:
                    _fail(batch, StoreUnavailableError())
            except _REFUSED as error:
                _cut_off(error)
                self._log.warning("store_refused", error=type(error).__name__, commands=len(batch))
                if not event_store.is_misnumbered(error):
                    await self._split(batch, NotStorableError(type(error).__name__))
                    return
                if len(batch) == 1 and (left_out := _misnumbered.take()) is not None:
                    # Not the store's detail: of a run it is the row, with what a client has sent.
                    where = self._loader.place_of(batch[0].request)
                    self._log.error("room_misnumbered", **where, constraint=error.constraint_name, left_out=left_out)
                await self._split(batch, MisnumberedRoomError())
                return
            except STORE_ERRORS as error:
                # The connection broke or time ran out: the transaction may have been committed all the same.
                _cut_off(error)
                metrics.STORE_RETRIES.inc()
                self._disconnect()
                if self._store_is_well:
                    self._log.warning("store_failed", error=type(error).__name__, commands=len(batch))
                    self._store_is_well = False
                await asyncio.sleep(_RECONNECT_SECONDS)
            except Exception as error:
                # By what is stored under one of its keys, for example: the others must not fail for that.
                self._log.error("batch_crashed", commands=len(batch), exc_info=error)
                _cut_off(error)
                await self._split(batch, BatchCrashedError(repr(error)))
                return
            else:
                self._store_is_well = True
                return

    async def _split(self, batch: list[Submission], failure: Exception) -> None:
        """One command at a time, the others are free of the one that cannot be had."""
        self._disconnect()
        if len(batch) == 1:
            batch[0].fail(failure)
            return
        for submission in batch:
            await self._process([submission])

    async def _attempt(self, batch: list[Submission]) -> None:
        """One transaction. When it raises nothing is resolved, and what may have been committed is in ``attempts``."""
        started, began_ns = time.perf_counter(), time.time_ns()
        connection = self._connection or await self._connect()
        if not await self._attempt_known(connection, batch):
            await self._attempt_loaded(connection, batch)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        if (tracer := tracing.active()) is not None:
            traces = [submission.request.traceparent for submission in batch]
            tracer.record("commit", "internal", traces, began_ns, {"runroom.batch.commands": len(batch)})

    async def _attempt_known(self, connection: Connection, batch: Sequence[Submission]) -> bool:
        """Decides on what is known of the rooms, and commits in one statement. Not if it is not enough, or not so."""
        places: list[tuple[RoomKey, str | None]] = []
        for submission in batch:
            caller, command, *_ = submission.request
            if isinstance(command, CreateRun):
                places.append((RoomKey(caller.workspace_id, command.room_id), None))
                continue
            room = self._run_rooms.get(command.run_id)
            if room is None or not caller.may_see(room):
                return False
            places.append((room, command.run_id))
        known = self._known.look_up(places)
        if known is None or any(submission.attempts for submission in batch):
            return False
        now = datetime.now(UTC)
        loaded = Loaded(dict(known.rooms), known.runs, {})
        drafted = plan((s.request for s in batch), loaded, now, self._ids, self._settings.keep_outcomes)
        if None in drafted.accepted_event_ids:
            # A refusal has to be certain, and a key's first outcome may have been stored by another process.
            return False
        _note_attempts(batch, drafted)
        result = await event_store.write(connection, drafted, known.rooms, now)
        if result == "written":
            self._settle(batch, drafted)
            return True
        if result == "moved":
            self._known.forget(known.rooms, time.monotonic())
        for submission in batch:
            submission.attempts.clear()
        return False

    async def _attempt_loaded(self, connection: Connection, batch: Sequence[Submission]) -> None:
        """Locks the rooms, loads what decisions need, decides and commits."""
        places = await self._loader.rooms_of(connection, [s.request for s in batch])
        rooms = {room for room in places if room}
        await connection.execute("begin")
        try:
            locked = await self._loader.lock(connection, rooms)
            waiting = {s for s, room in zip(batch, places, strict=True) if room and room not in locked}
            batch = [s for s in batch if s not in waiting]
            loaded = await self._loader.load(connection, [s.request for s in batch], locked)
            settled = await self._settled(connection, batch)
            open_ = [s for s in batch if s not in settled]
            now = datetime.now(UTC)
            drafted = plan((s.request for s in open_), loaded, now, self._ids, self._settings.keep_outcomes)
            if drafted.events:
                if await event_store.write(connection, drafted, locked, now) != "written":
                    raise event_store.KeyRaceError
                _note_attempts(open_, drafted)
                await connection.execute("commit")
            else:
                await connection.execute("rollback")
        except _RACES as error:
            await connection.execute("rollback")
            if isinstance(error, asyncpg.LockNotAvailableError):
                await self._loader.find_busy(connection, rooms)
            raise
        self._known.compare(locked)
        # A run of a room that is not locked, as the caller may not see it, may have moved since it was loaded.
        runs = [run for run in loaded.runs.values() if RoomKey(run.workspace_id, run.room_id) in locked]
        self._known.learn(loaded.rooms, runs, time.monotonic())
        if waiting:
            asyncio.get_running_loop().call_later(_BUSY_PAUSE_SECONDS, self._waiting.enqueue, waiting)
        for submission, outcome in settled.items():
            submission.settle(outcome)
        self._settle(open_, drafted)

    def _settle(self, submissions: Sequence[Submission], drafted: Plan) -> None:
        """What was drafted is committed, or was nothing but refusals."""
        self._known.learn(drafted.rooms, drafted.runs.values(), time.monotonic())
        for run in drafted.runs.values():
            self._run_rooms.add(run.run_id, RoomKey(run.workspace_id, run.room_id))
        for submission, outcome in zip(submissions, drafted.outcomes, strict=True):
            submission.settle(outcome)
        if drafted.events:
            self._committed(drafted.events)

    async def _settled(self, connection: Connection, batch: Sequence[Submission]) -> dict[Submission, Outcome]:
        """What earlier attempts with an unknown outcome did commit.

        The rooms are locked: a transaction of an earlier connection that might still commit would hold them.
        """
        attempted = {event_id: s for s in batch for event_id in s.attempts}
        if not attempted:
            return {}
        found = await event_store.find_events(connection, list(attempted))
        return {attempted[event_id]: attempted[event_id].attempts[event_id] for event_id in found}

    async def _connect(self) -> Connection:
        self._connection = await connect(self._settings.dsn, "runroom-command-writer")
        # A paused writer must not hold its rooms for longer than the others wait.
        limit = int(self._settings.store_timeout * 1000)
        await self._connection.execute(
            f"set idle_in_transaction_session_timeout = {limit}; set lock_timeout = {int(limit * _PATIENT_SHARE)}"
        )
        self._log.info("store_connected")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _note_attempts(submissions: Sequence[Submission], drafted: Plan) -> None:
    for submission, event_id, outcome in zip(submissions, drafted.accepted_event_ids, drafted.outcomes, strict=True):
        if event_id is not None and isinstance(outcome, Accepted):
            submission.attempts[event_id] = outcome


def _cut_off(error: BaseException | None) -> None:
    """Takes the traceback off an error that is dealt with, and off those it came of.

    It leads to the batch and what was made of it. Errors of connecting lead to themselves: that would all be kept until
    a full garbage collection.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _fail(batch: list[Submission], error: Exception) -> None:
    for submission in batch:
        submission.fail(error)
