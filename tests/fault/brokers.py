"""The brokers of a plant: one, or a JetStream cluster of three with as many replicas of the stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local import EmbeddedNats
from deploy.local.ports import free_port
from shared.contracts.subjects import STREAM
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from tests.support.servers import nats_seeds, nats_users

_LEADER_SECONDS = 30.0


class Brokers:
    """``nodes``, and which of them leads the stream."""

    def __init__(self, folder: Path, count: int) -> None:
        ports = [free_port() for _ in range(count)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.nodes = [
            EmbeddedNats(
                folder / f"nats-{number}",
                name=f"node-{number}",
                users=nats_users(),
                seeds=nats_seeds(),
                # Clients are told of no node but the ones they know, each behind its proxy.
                more=(
                    f'cluster {{ name: runroom, listen: "127.0.0.1:{port}", routes: [{routes}], no_advertise: true }}\n'
                    if count > 1
                    else ""
                ),
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    async def start(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes))

    async def stop(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self.nodes))

    async def leader(self) -> EmbeddedNats:
        """The node that leads the stream, once there is one."""
        async with self.connected() as broker, asyncio.timeout(_LEADER_SECONDS):
            while True:
                try:
                    info = await broker.jetstream(f"STREAM.INFO.{STREAM}")
                    return self.nodes[int(info["cluster"]["leader"].removeprefix("node-"))]
                except (BrokerUnavailableError, JetStreamError, KeyError):
                    await asyncio.sleep(0.2)

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Broker, None]:
        """A connection past the proxies."""
        broker = Broker(self.url, name="fault-suite")
        broker.start()
        try:
            async with asyncio.timeout(_LEADER_SECONDS):
                await broker.wait_connected()
            yield broker
        finally:
            await broker.close()
