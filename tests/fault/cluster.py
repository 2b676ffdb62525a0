"""A three-node JetStream cluster on this machine, with a stream of three replicas."""

import asyncio
from pathlib import Path

from deploy.local import EmbeddedNats
from deploy.local.ports import free_port
from shared.contracts.subjects import STREAM
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError

NODES = 3


class Cluster:
    """The nodes, and which of them leads the stream."""

    def __init__(self, folder: Path) -> None:
        route_ports = [free_port() for _ in range(NODES)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in route_ports)
        self.nodes = [
            EmbeddedNats(
                folder / f"nats-{number}",
                name=f"node-{number}",
                more=f'cluster {{ name: runroom, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n',
            )
            for number, port in enumerate(route_ports)
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
        broker = Broker(self.url, name="cluster")
        broker.start()
        try:
            async with asyncio.timeout(30):
                await broker.wait_connected()
                while True:
                    try:
                        info = await broker.jetstream(f"STREAM.INFO.{STREAM}")
                        return self.nodes[int(info["cluster"]["leader"].removeprefix("node-"))]
                    except (BrokerUnavailableError, JetStreamError, KeyError):
                        await asyncio.sleep(0.2)
        finally:
            await broker.close()
