"""Sharing the partitions out among the workers.

Invariant: a partition has one owner and an epoch that grows with every change of owner. Clocks only decide when
somebody may take over; whether a worker may still write is decided by the epoch, in the transaction that writes.
What a worker that is not alive any more has begun to write is ended before its partitions are taken over: it would keep
its successor waiting.
Nobody has a share of them before NATS has let it in: it would keep them from those who can read the stream.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import asyncpg
import structlog

from services.projector.session import Session
from services.projector.shares import fair_share, turns_of
from shared.contracts.subjects import PARTITIONS
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError
from shared.messaging.listening import Listening
from shared.postgres import STORE_ERRORS, Connection, load_queries
from shared.telemetry import Logger

_SQL = load_queries(Path(__file__).parent / "sql")

WAKE_SUBJECT = "projector.wake"
_MOST_NAME_BYTES = 1000
"""Of a worker, which a ping says."""
"""Core NATS ping to all workers: there are leases to be taken or given back."""
_TICKS_PER_LEASE = 5
_FIRST_TICKS_SECONDS = 0.1
_STOP_SECONDS = 3.0
_FORGOTTEN_WORKERS = 5000
"""Rows of each kind that are no workers, forgotten after each tick: 10 ms."""
_FORGETTING_SECONDS = 0.4


class Lease(NamedTuple):
    """One partition of one projection, ours while ``epoch`` is its epoch. The rest is its checkpoint."""

    partition: int
    epoch: int
    stream_key: str
    position: int


class Holder(Protocol):
    """Whoever works on the partitions of one projection."""

    @property
    def name(self) -> str: ...

    def held(self) -> Mapping[int, int]:
        """Partition → epoch of what is being worked on."""
        ...

    def grant(self, leases: Collection[Lease]) -> None:
        """Starts work on partitions."""
        ...

    def drop(self, partitions: Collection[int]) -> None:
        """Stops work on partitions that are no longer ours."""
        ...

    async def give_back(self, partitions: Collection[int]) -> None:
        """Stops work on partitions and returns when nothing of them is being written any more, or nearly so."""
        ...


def new_worker_id() -> str:
    """A name no other worker has, that still tells where it runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"


def session_name(worker: str) -> str:
    """What PostgreSQL calls the worker's sessions. Names of hosts are longer than it has room for."""
    return f"runroom-projector-{worker.rpartition('-')[2]}"


class LeaseKeeper:
    """Keeps a worker alive in the others' eyes and its share of the partitions at the right size.

    ``waits_for_broker`` until NATS has let the worker in for the first time: until then it is not alive to the others.
    """

    def __init__(
        self, session: Session, broker: Broker, holders: Sequence[Holder], worker: str, *, lease_seconds: float
    ) -> None:
        self.waits_for_broker = True
        self._session = session
        self._broker = broker
        self._holders = holders
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._alive_until = 0.0
        self._wake = asyncio.Event()
        self._ticking = asyncio.Lock()
        self._stopping = False
        self._joined = False
        self._announced: list[str] = []
        self._prepared: set[str] = set()
        self._well = True
        self._listening = Listening(broker, WAKE_SUBJECT, _MOST_NAME_BYTES, self._on_wake)
        self._log: Logger = structlog.get_logger("leases")

    async def run(self) -> None:
        """Never returns."""
        await self._be_let_in()
        while True:
            self._wake.clear()
            async with self._ticking:
                if not self._stopping:
                    await self._try_tick()
                    await self._forget()
            try:
                # What it runs is seen soon after it has joined, and is not to wait for long leases.
                seconds = self._lease_seconds / _TICKS_PER_LEASE
                async with asyncio.timeout(seconds if self._holders else min(seconds, _FIRST_TICKS_SECONDS)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Gives everything back, so that other workers take over at once."""
        self._stopping = True
        try:
            async with asyncio.timeout(_STOP_SECONDS), self._ticking:
                await asyncio.gather(*(holder.give_back(holder.held()) for holder in self._holders))
                if self._joined:
                    connection = await self._session.get()
                    await connection.execute(_SQL["retire"], self._worker, PARTITIONS)
                    await self._ping()
                    self._log.info("leases_given_back")
        except STORE_ERRORS as error:
            self._log.warning("leases_left_to_expire", error=type(error).__name__)

    async def _be_let_in(self) -> None:
        try:
            async with asyncio.timeout(self._lease_seconds):
                await self._broker.wait_connected()
        except TimeoutError:
            self._log.warning("leases_wait_for_broker")
            await self._broker.wait_connected()
        self.waits_for_broker = False

    async def _try_tick(self) -> None:
        started = time.monotonic()
        left = self._alive_until - started
        try:
            async with asyncio.timeout(left if left > 0 else self._lease_seconds):
                await self._tick(await self._session.get())
        except STORE_ERRORS as error:
            self._session.discard()
            # What answers next may be another database, with nothing in it.
            self._prepared.clear()
            if self._well:
                self._log.warning("projection_store_unavailable", error=type(error).__name__)
            self._well = False
            if time.monotonic() >= self._alive_until:
                self._drop_all()
            return
        if not self._well:
            self._log.info("projection_store_available")
        self._well = True
        self._alive_until = started + self._lease_seconds

    async def _forget(self) -> None:
        """Some of the rows that are no workers go, apart from what keeps us alive, which is not to wait for it long."""
        if not self._well:
            return
        with suppress(*STORE_ERRORS):
            async with asyncio.timeout(min(self._lease_seconds / _TICKS_PER_LEASE, _FORGETTING_SECONDS)):
                connection = await self._session.get()
                await connection.execute(_SQL["forget_workers"], _FORGOTTEN_WORKERS)

    def _drop_all(self) -> None:
        """By our own clock everything has expired. Late writes would be fenced off; this spares trying."""
        for holder in self._holders:
            if held := holder.held():
                self._log.warning("leases_expired", projection=holder.name, partitions=len(held))
                holder.drop(held)

    async def _tick(self, connection: Connection) -> None:
        holders = list(self._holders)
        for holder in holders:
            if holder.name not in self._prepared:
                await connection.execute(_SQL["lease_rows"], holder.name, PARTITIONS)
                self._prepared.add(holder.name)
        names = [holder.name for holder in holders]
        await connection.execute(_SQL["heartbeat"], self._worker, names, self._lease_seconds)
        self._joined = True
        # Before anybody answers to the ping.
        await self._listen()
        if names != self._announced:
            self._announced = names
            await self._ping()
        living = await connection.fetch(_SQL["living_workers"], self._worker)
        ours: dict[str, dict[int, int]] = {name: {} for name in names}
        for row in await connection.fetch(_SQL["leases_of"], self._worker, PARTITIONS):
            ours.setdefault(row["projection"], {})[row["partition"]] = row["epoch"]
        turns = turns_of(row["projections"] for row in living)
        for holder in holders:
            workers = [row["worker_id"] for row in living if holder.name in row["projections"]]
            # Somebody may have changed our row meanwhile, so that nobody is said to run it.
            share = fair_share(PARTITIONS, workers, self._worker, turns.get(holder.name, 0))
            if await self._settle(connection, holder, ours[holder.name], share):
                await self._end_expired(connection, holder.name, [row["worker_id"] for row in living])
                await self._claim(connection, holder, share)

    async def _settle(self, connection: Connection, holder: Holder, ours: Mapping[int, int], share: int) -> bool:
        """Makes what the holder works on equal to what is ours, and that no more than our share. Whether it is less."""
        held = holder.held()
        lost = [partition for partition, epoch in held.items() if ours.get(partition) != epoch]
        if lost:
            self._log.warning("leases_lost", projection=holder.name, partitions=sorted(lost))
            holder.drop(lost)
        kept = sorted(held.keys() - set(lost))
        surplus = kept[share:]
        if surplus:
            await holder.give_back(surplus)
        # Ours and not worked on: a return that failed half way. It gets a new epoch like everything else.
        idle = [partition for partition in ours if partition not in kept]
        if unwanted := [*surplus, *idle]:
            await connection.execute(_SQL["release"], holder.name, unwanted, self._worker)
            self._log.info("leases_released", projection=holder.name, partitions=len(unwanted), share=share)
            await self._ping()
        return len(kept) < share

    async def _claim(self, connection: Connection, holder: Holder, share: int) -> None:
        """Takes what we lack of our share, as far as nobody alive has it."""
        missing = share - len(holder.held())
        rows = await connection.fetch(_SQL["claim"], holder.name, self._worker, missing)
        if len(rows) < missing:
            # Held by others, or there are none: the database may have been made anew without our noticing.
            self._prepared.discard(holder.name)
        if rows:
            leases = [
                Lease(row["partition"], row["epoch"], row["stream_identity"], row["stream_position"]) for row in rows
            ]
            self._log.info("leases_taken", projection=holder.name, partitions=len(leases), share=share)
            holder.grant(leases)

    async def _end_expired(self, connection: Connection, projection: str, living: Collection[str]) -> None:
        """PostgreSQL waits for what a worker that stands still has half sent, and for it whoever inserts the same rows.

        Before its leases are taken: until then whoever comes next knows of it, should this fail. A worker that was only
        late connects again, and finds that it has lost its leases. Who is alive keeps its sessions, whatever owner that
        is none somebody has made up for a lease: sessions are told apart by the last part of a name alone.
        """
        rows = await connection.fetch(_SQL["expired_owners"], projection, self._worker)
        spared = {session_name(worker) for worker in (self._worker, *living)}
        owners = sorted(row["owner"] for row in rows if session_name(row["owner"]) not in spared)
        if not owners:
            return
        try:
            ended = await connection.fetchval(_SQL["end_sessions"], [session_name(owner) for owner in owners])
        except asyncpg.InsufficientPrivilegeError:
            self._log.warning("sessions_not_ended", projection=projection, workers=owners)
            return
        if ended:
            self._log.warning("sessions_ended", projection=projection, workers=owners, sessions=ended)

    async def _listen(self) -> None:
        if self._broker.is_connected:
            with suppress(BrokerUnavailableError, *BROKER_ERRORS):
                await self._listening.go_on()

    async def _ping(self) -> None:
        """Best effort: without it the others notice at their next tick."""
        with suppress(BrokerUnavailableError, *BROKER_ERRORS):
            await self._broker.client.publish(WAKE_SUBJECT, self._worker.encode())

    def _on_wake(self, worker: bytes) -> None:
        if worker != self._worker.encode():
            self._wake.set()
