"""The faults, one function each: it breaks something, waits, and mends what does not mend itself.

What happens to the load meanwhile is none of its business.
"""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence

from tests.fault.clock import step_clock
from tests.fault.plant import Plant, Server, kill, pause, resume, start

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


async def kill_everything(plant: Plant, rng: random.Random) -> None:
    """As a power cut does, all at once; then everything is started in no particular order."""
    everything: list[Server] = [*plant.services, plant.nats, plant.postgres]
    await kill(everything)
    rng.shuffle(everything)
    await start(everything)


async def broker_comes_back_empty(plant: Plant, rng: random.Random) -> None:
    await kill([plant.nats])
    shutil.rmtree(plant.nats.data_dir / "jetstream")
    await start([plant.nats])


async def broker_comes_back_older(plant: Plant, rng: random.Random) -> None:
    """A copy of its store is taken, more is written, and then the copy is what it comes back with."""
    store, copy = plant.nats.data_dir / "jetstream", plant.folder / "older-jetstream"
    await asyncio.to_thread(plant.nats.stop)
    shutil.copytree(store, copy)
    await start([plant.nats])
    await asyncio.sleep(rng.uniform(1.0, 3.0))
    await kill([plant.nats])
    shutil.rmtree(store)
    shutil.move(copy, store)
    await start([plant.nats])


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
    projection = rng.choice(["runs", "room_feed"])
    for more in ([], ["--drop-old"]):
        status, printed = await plant.run("services.projector", "rebuild", projection, *more)
        assert status == 0, printed


FAULTS: dict[str, Fault] = {
    "kill command": _killing(lambda plant: plant.commands),
    "kill query": _killing(lambda plant: plant.queries),
    "kill projector": _killing(lambda plant: plant.projectors),
    "kill nats": _killing(lambda plant: [plant.nats]),
    "kill postgres": _killing(lambda plant: [plant.postgres]),
    "pause command": _pausing(lambda plant: plant.commands),
    "pause query": _pausing(lambda plant: plant.queries),
    "pause projector": _pausing(lambda plant: plant.projectors),
    "pause nats": _pausing(lambda plant: [plant.nats]),
    "pause postgres": _pausing(lambda plant: [plant.postgres]),
    "kill everything": kill_everything,
    "broker comes back empty": broker_comes_back_empty,
    "broker comes back older": broker_comes_back_older,
    "connections cut": connections_cut,
    "connections delayed": connections_delayed,
    "connections held": connections_held,
    "answers lost": answers_lost,
    "clock steps": clock_steps,
    "projection rebuilt": projection_rebuilt,
}

EXCLUSIVE: tuple[frozenset[str], ...] = tuple(
    frozenset(names)
    for names in (
        # What works on the same process, or on the same connections, is injected one after the other.
        ("kill command", "pause command"),
        ("kill query", "pause query"),
        ("kill projector", "pause projector"),
        ("kill postgres", "pause postgres"),
        ("kill nats", "pause nats", "broker comes back empty", "broker comes back older"),
        ("connections cut", "connections delayed", "connections held", "answers lost"),
    )
)
ALONE = frozenset({"kill everything", "projection rebuilt"})
"""These need, or are, everything at once."""


def draw(rng: random.Random) -> tuple[str, ...]:
    """One to three faults that can go on at the same time."""
    drawn: list[str] = []
    names = sorted(FAULTS)
    for name in rng.sample(names, k=len(names)):
        others = {other for group in EXCLUSIVE if name in group for other in group}
        if not drawn and name in ALONE:
            return (name,)
        if name not in ALONE and not others & set(drawn):
            drawn.append(name)
        if len(drawn) == 3:
            break
    return tuple(drawn[: rng.randint(1, 3)])
