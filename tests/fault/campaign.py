"""A campaign: one deployment under load, fault after fault, and the accounts at the end of it all.

Invariant: a campaign is told by its seed; the same seed injects the same faults in the same order.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fault.accounts import Accounts, balance, settle
from tests.fault.faults import FAULTS, Stage
from tests.fault.load import Load
from tests.fault.plant import Plant, running_plant
from tests.fault.readers import Reader

ROOMS = 10
ENGINES = 8
VIEWERS_PER_ROOM = 2
RECOVERY_SECONDS = 60.0

Tell = Callable[[str], None]


@dataclass
class Injected:
    """One fault, how long it lasted, and how long after it new commands, one in each room, took.

    ``seen_seconds``: until a viewer of each room saw the event; ``readable_seconds``: until each run could be read.
    """

    fault: str
    lasted_seconds: float
    seen_seconds: float
    readable_seconds: float


@dataclass
class Report:
    stage: str
    seed: int
    injected: list[Injected] = field(default_factory=list)
    asked_again: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    settled_seconds: float = 0.0
    verified: bool = False
    """What the deployment's own ``verify`` command says of it."""
    accounts: Accounts = field(default_factory=Accounts)

    @property
    def is_well(self) -> bool:
        return self.accounts.balanced and self.verified

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def run_campaign(folder: Path, stage: Stage, faults: Sequence[tuple[str, ...]], seed: int, tell: Tell) -> Report:
    """Injects the named faults: those of a group at the same time, one group after another.

    Raises ``AssertionError`` for an answer no client should get, ``NoSmallDiskError`` for a stage that cannot be set.
    """
    rng = random.Random(seed)
    report = Report(stage.name, seed)
    async with running_plant(folder, stage.layout) as plant:
        rooms = [f"room_{number}" for number in range(ROOMS)]
        load = Load(plant.command_urls, rooms, "fault", seed)
        readers = [
            Reader(plant.query_urls, "fault", room, number) for number, room in enumerate(rooms * VIEWERS_PER_ROOM)
        ]
        watching = [asyncio.create_task(reader.run()) for reader in readers]
        loading = asyncio.create_task(load.run(ENGINES))
        try:
            await asyncio.sleep(1.0)
            for names in faults:
                injected = await _inject(plant, load, readers[:ROOMS], names, rng)
                report.injected.append(injected)
                tell(
                    f"{injected.fault}: lasted {injected.lasted_seconds:.1f} s,"
                    f" seen {injected.seen_seconds:.2f} s and readable {injected.readable_seconds:.2f} s later"
                )
                if loading.done():
                    break
            load.stop()
            await loading
            report.settled_seconds = await settle(plant, load, readers)
            report.accounts = await balance(plant, load, readers)
            report.verified = await verify(plant, tell)
        finally:
            for task in (*watching, loading):
                task.cancel()
            await asyncio.gather(*watching, loading, return_exceptions=True)
            await load.close()
        report.asked_again = dict(load.asked_again)
        report.reconnects = sum(reader.connections for reader in readers) - len(readers)
    return report


async def _inject(
    plant: Plant, load: Load, readers: Sequence[Reader], names: tuple[str, ...], rng: random.Random
) -> Injected:
    started = time.monotonic()
    await asyncio.gather(*(FAULTS[name](plant, random.Random(rng.random())) for name in names))
    mended = time.monotonic()
    async with asyncio.timeout(RECOVERY_SECONDS):
        probes = await asyncio.gather(*(_probe(plant, load, reader) for reader in readers))
    seen, readable = (max(moments) for moments in zip(*probes, strict=True))
    await asyncio.sleep(rng.uniform(0.5, 1.5))
    return Injected(" + ".join(names), mended - started, seen - mended, readable - mended)


async def _probe(plant: Plant, load: Load, reader: Reader) -> tuple[float, float]:
    """Sends one command to the reader's room: when its event was seen, and when its run could be read."""
    probe = await load.send("/v1/runs", {"room_id": reader.room_id, "title": "probe"})

    async def seen() -> float:
        while reader.last_seq < probe.stream_seq:
            await asyncio.sleep(0.01)
        return time.monotonic()

    async def readable() -> float:
        await load.read(plant.query_urls, probe)
        return time.monotonic()

    return await asyncio.gather(seen(), readable())


async def verify(plant: Plant, tell: Tell) -> bool:
    """Whether ``python -m services.projector verify`` finds the deployment well; tells what it says if not."""
    status, printed = await plant.run("services.projector", "verify")
    if status != 0:
        tell(printed)
    return status == 0
