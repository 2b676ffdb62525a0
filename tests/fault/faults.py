"""The faults, one function each: it breaks something, waits, and mends what does not mend itself.

What happens to the load meanwhile is none of its business.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from deploy.local.process import LocalError
from shared.contracts.subjects import STREAM
from shared.messaging.broker import BrokerUnavailableError, JetStreamError
from tests.fault.clock import step_clock
from tests.fault.disks import filled
from tests.fault.plant import Layout, Plant, Server, kill, pause, resume, start

Fault = Callable[[Plant, random.Random], Awaitable[None]]


def _killing(pick: Callable[[Plant], Sequence[Server]]) -> Fault:
    async def fault(plant: Plant, rng: random.Random) -> None:
        victim = rng.choice(pick(plant))
        await kill([victim])
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        await start([victim])

    return fault


def _pausing(pick: Callable[[Plant], Sequence[Server]]) -> Fault:
    async def fault(plant: Plant, rng: random.Random) -> None:
        victim = rng.choice(pick(plant))
        pause(victim)
        try:
            await asyncio.sleep(rng.uniform(1.0, 6.0))
        finally:
            resume(victim)

    return fault


def _killing_all(pick: Callable[[Plant], Sequence[Server]]) -> Fault:
    """All at once, as a power cut does; then they are started in no particular order."""

    async def fault(plant: Plant, rng: random.Random) -> None:
        victims = list(pick(plant))
        await kill(victims)
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        rng.shuffle(victims)
        await asyncio.gather(*(start([victim]) for victim in victims))

    return fault


async def services_restarted(plant: Plant, rng: random.Random) -> None:
    """All services, one after another, by SIGTERM: a release, or nodes that are drained."""
    for service in rng.sample(plant.services, k=len(plant.services)):
        await asyncio.to_thread(service.stop)
        service.start()
        await asyncio.to_thread(service.wait_until_ready)
        await asyncio.sleep(0.3)


async def brokers_restarted(plant: Plant, rng: random.Random) -> None:
    """One after another, each once the one before has a leader to follow again."""
    for node in rng.sample(plant.brokers.nodes, k=len(plant.brokers.nodes)):
        await asyncio.to_thread(node.stop)
        await start([node])
        await plant.brokers.leader()


async def leader_killed(plant: Plant, rng: random.Random) -> None:
    leader = await plant.brokers.leader()
    await _killing(lambda _: [leader])(plant, rng)


async def leader_paused(plant: Plant, rng: random.Random) -> None:
    leader = await plant.brokers.leader()
    await _pausing(lambda _: [leader])(plant, rng)


async def broker_comes_back_empty(plant: Plant, rng: random.Random) -> None:
    [broker] = plant.brokers.nodes
    await kill([broker])
    shutil.rmtree(broker.data_dir / "jetstream")
    await start([broker])


async def broker_comes_back_older(plant: Plant, rng: random.Random) -> None:
    """A copy of its store is taken, more is written, and then the copy is what it comes back with."""
    [broker] = plant.brokers.nodes
    store, copy = broker.data_dir / "jetstream", plant.folder / "older-jetstream"
    await asyncio.to_thread(broker.stop)
    shutil.copytree(store, copy)
    await start([broker])
    await asyncio.sleep(rng.uniform(1.0, 3.0))
    await kill([broker])
    shutil.rmtree(store)
    shutil.move(copy, store)
    await start([broker])


async def broker_refuses_us(plant: Plant, rng: random.Random) -> None:
    """Credentials are changed, and changed back."""
    [broker] = plant.brokers.nodes
    config = broker.data_dir / "nats.conf"
    before = config.read_text()
    for text in (f"{before}authorization {{ user: somebody, password: else }}\n", before):
        config.write_text(text)
        _signal(broker, signal.SIGHUP)
        await asyncio.sleep(rng.uniform(1.0, 4.0))


async def broker_leaves(plant: Plant, rng: random.Random) -> None:
    """In lame duck mode: clients are asked to go, then the broker does."""
    [broker] = plant.brokers.nodes
    _signal(broker, signal.SIGUSR2)
    await asyncio.sleep(rng.uniform(0.5, 2.0))
    await asyncio.to_thread(broker.stop)
    await start([broker])


def _signal(server: Server, number: signal.Signals) -> None:
    if server.pid is not None:
        os.kill(server.pid, number)


async def stream_deleted(plant: Plant, rng: random.Random) -> None:
    """By somebody who may."""
    with contextlib.suppress(BrokerUnavailableError, JetStreamError):
        async with plant.brokers.connected() as broker:
            await broker.jetstream(f"STREAM.DELETE.{STREAM}")


async def consumers_deleted(plant: Plant, rng: random.Random) -> None:
    with contextlib.suppress(BrokerUnavailableError, JetStreamError):
        async with plant.brokers.connected() as broker:
            for name in (await broker.jetstream(f"CONSUMER.NAMES.{STREAM}"))["consumers"]:
                await broker.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}")


async def brokers_disk_is_full(plant: Plant, rng: random.Random) -> None:
    """A broker that once failed to write refuses until it is started again."""
    [broker] = plant.brokers.nodes
    with filled(broker.data_dir.parent):
        await asyncio.sleep(rng.uniform(2.0, 4.0))
    await kill([broker])
    await start([broker])


async def databases_disk_is_full(plant: Plant, rng: random.Random) -> None:
    """PostgreSQL stops itself when it cannot write its log."""
    with filled(plant.postgres.data_dir.parent):
        await asyncio.sleep(rng.uniform(2.0, 4.0))
    if plant.postgres.pid is None:
        await start([plant.postgres])


async def sessions_ended(plant: Plant, rng: random.Random) -> None:
    """Some of all sessions, in the middle of whatever they do, by an administrator."""
    for _ in range(8):
        await _administer(
            plant,
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name like 'runroom%' and random() < 0.5",
        )
        await asyncio.sleep(rng.uniform(0.05, 0.4))


async def tables_locked(plant: Plant, rng: random.Random) -> None:
    """By a careless migration, for longer than leases last."""
    database, tables = rng.choice([("event_store", "rooms, events"), ("projections", "proj_rooms, projector_leases")])
    await _administer(
        plant, f"begin; lock table {tables}; select pg_sleep({rng.uniform(1.0, 4.0)}); commit", database=database
    )


async def room_held(plant: Plant, rng: random.Random) -> None:
    """A session that somebody forgot, in the middle of a transaction."""
    await _administer(
        plant,
        "begin; select from rooms order by random() limit 1 for update;"
        f" select pg_sleep({rng.uniform(2.0, 6.0)}); rollback",
        database="event_store",
    )


async def _administer(plant: Plant, statements: str, database: str = "postgres") -> None:
    """Others may have taken the database away meanwhile, and the statements with it."""
    with contextlib.suppress(LocalError):
        await asyncio.to_thread(plant.postgres.execute, statements, database=database)


async def connections_cut(plant: Plant, rng: random.Random) -> None:
    for _ in range(5):
        for proxy in plant.proxies:
            proxy.cut()
        await asyncio.sleep(rng.uniform(0.05, 0.6))


async def connections_delayed(plant: Plant, rng: random.Random) -> None:
    for proxy in plant.proxies:
        proxy.delay(rng.uniform(0.02, 0.2))
    await asyncio.sleep(3.0)
    for proxy in plant.proxies:
        proxy.delay(0.0)


async def connections_held(plant: Plant, rng: random.Random) -> None:
    """Open and silent: what a network that drops everything looks like from the inside."""
    proxy = rng.choice(plant.proxies)
    proxy.hold()
    await asyncio.sleep(rng.uniform(1.0, 6.0))
    proxy.release()


async def answers_lost(plant: Plant, rng: random.Random) -> None:
    """What is asked is done, and nobody hears of it: commits and publishes with an unknown outcome."""
    for proxy in plant.proxies:
        for _ in range(3):
            proxy.swallow_answers()
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            proxy.cut()
            proxy.release()
            await asyncio.sleep(0.3)


async def clock_steps(plant: Plant, rng: random.Random) -> None:
    """Forward by an hour, back by two, and right again, in all services."""
    for seconds in (3600.0, -3600.0, 0.0):
        step_clock(plant.clock_file, seconds)
        await asyncio.sleep(1.0)


async def projection_rebuilt(plant: Plant, rng: random.Random) -> None:
    """No fault, and yet nobody may notice: one of the projections is built anew and switched to, beside the load."""
    await _rebuild(plant, rng.choice(["runs", "room_feed"]))


async def rebuild_killed(plant: Plant, rng: random.Random) -> None:
    """Three times at any moment, then it is let go on with what it had begun."""
    projection = rng.choice(["runs", "room_feed"])
    for _ in range(3):
        await plant.run("services.projector", "rebuild", projection, kill_after=rng.uniform(0.8, 3.0))
        await asyncio.sleep(2.0)  # until its session is known to be gone, and with it its lock
    await _rebuild(plant, projection)


async def _rebuild(plant: Plant, projection: str) -> None:
    for more in ([], ["--drop-old"]):
        status, printed = await plant.run("services.projector", "rebuild", projection, *more)
        assert status == 0, printed


SERVICES: dict[str, Fault] = {
    "kill command": _killing(lambda plant: plant.commands),
    "kill query": _killing(lambda plant: plant.queries),
    "kill projector": _killing(lambda plant: plant.projectors),
    "kill all projectors": _killing_all(lambda plant: plant.projectors),
    "kill postgres": _killing(lambda plant: [plant.postgres]),
    "kill everything": _killing_all(lambda plant: [*plant.services, *plant.brokers.nodes, plant.postgres]),
    "pause command": _pausing(lambda plant: plant.commands),
    "pause query": _pausing(lambda plant: plant.queries),
    "pause projector": _pausing(lambda plant: plant.projectors),
    "pause postgres": _pausing(lambda plant: [plant.postgres]),
    "connections cut": connections_cut,
    "connections delayed": connections_delayed,
    "connections held": connections_held,
    "answers lost": answers_lost,
    "sessions ended": sessions_ended,
    "tables locked": tables_locked,
    "room held": room_held,
    "clock steps": clock_steps,
    "projection rebuilt": projection_rebuilt,
    "rebuild killed": rebuild_killed,
}
ONE_BROKER: dict[str, Fault] = {
    "kill nats": _killing(lambda plant: plant.brokers.nodes),
    "pause nats": _pausing(lambda plant: plant.brokers.nodes),
    "broker comes back empty": broker_comes_back_empty,
    "broker comes back older": broker_comes_back_older,
    "broker refuses us": broker_refuses_us,
    "broker leaves": broker_leaves,
    "stream deleted": stream_deleted,
    "consumers deleted": consumers_deleted,
}
CLUSTER: dict[str, Fault] = {
    "kill stream leader": leader_killed,
    "pause stream leader": leader_paused,
    "kill two brokers": _killing_all(lambda plant: plant.brokers.nodes[:2]),
    "restart brokers": brokers_restarted,
}
SMALL_DISKS: dict[str, Fault] = {
    "broker's disk full": brokers_disk_is_full,
    "database's disk full": databases_disk_is_full,
}
RELEASE: dict[str, Fault] = {"restart services": services_restarted}

FAULTS: Mapping[str, Fault] = {**SERVICES, **ONE_BROKER, **CLUSTER, **SMALL_DISKS, **RELEASE}


class Stage(NamedTuple):
    """A kind of deployment, and the faults that are staged on it: ``each`` once, ``combined`` at random."""

    name: str
    layout: Layout
    each: Collection[str]
    combined: Collection[str] = ()


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("one broker", Layout(), [*SERVICES, *ONE_BROKER], [*SERVICES, *ONE_BROKER]),
        Stage("three brokers", Layout(brokers=3), [*CLUSTER], [*SERVICES, *CLUSTER]),
        Stage("small disks", Layout(small_disks=True), [*SMALL_DISKS]),
        Stage("release", Layout(), [*RELEASE]),
    )
}

EXCLUSIVE: tuple[frozenset[str], ...] = tuple(
    frozenset(names)
    for names in (
        # What works on the same process, or on the same connections, is injected one after the other.
        ("kill command", "pause command"),
        ("kill query", "pause query"),
        ("kill projector", "kill all projectors", "pause projector"),
        ("kill postgres", "pause postgres", "tables locked", "room held", "sessions ended"),
        (*ONE_BROKER, *CLUSTER),
        ("connections cut", "connections delayed", "connections held", "answers lost"),
    )
)
ALONE = frozenset({"kill everything", "projection rebuilt", "rebuild killed"})
"""These need, or are, everything at once."""


def draw(rng: random.Random, names: Collection[str]) -> tuple[str, ...]:
    """One to three of the faults that can go on at the same time."""
    drawn: list[str] = []
    for name in rng.sample(sorted(names), k=len(names)):
        others = {other for group in EXCLUSIVE if name in group for other in group}
        if not drawn and name in ALONE:
            return (name,)
        if name not in ALONE and not others & set(drawn):
            drawn.append(name)
        if len(drawn) == 3:
            break
    return tuple(drawn[: rng.randint(1, 3)])
