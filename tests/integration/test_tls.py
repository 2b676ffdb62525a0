"""TLS to both servers: with the right authority and name it is used, and otherwise there is no connection."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import trustme
from nats.errors import ConnectionReconnectingError
from nats.errors import Error as NatsError

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.ports import free_port
from deploy.local.service import Service
from shared.messaging.access import NatsAccess
from shared.messaging.broker import Broker
from shared.messaging.client import MessagingClient, Outgoing
from shared.messaging.stream import StreamSettings, ensure_stream
from shared.postgres import connect, migrate
from shared.tasks import end_tasks
from tests.support.proxy import running_proxy, through
from tests.support.servers import EVENT_STORE_MIGRATIONS, MigratedDatabases
from tests.support.terminator import terminating


class Papers(NamedTuple):
    """PEM files: two authorities, and what the first has signed for the servers and for one client."""

    ca: Path
    other_ca: Path
    certificate: Path
    key: Path
    client: Path
    """With its key."""


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    authority = trustme.CA()
    papers = Papers(*(folder / f"{name}.pem" for name in Papers._fields))
    authority.cert_pem.write_to_path(papers.ca)
    trustme.CA().cert_pem.write_to_path(papers.other_ca)
    server = authority.issue_cert("localhost")
    server.cert_chain_pems[0].write_to_path(papers.certificate)
    server.private_key_pem.write_to_path(papers.key)
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(papers.client)
    return papers


@pytest.fixture(scope="module")
async def postgres(postgres_server: EmbeddedPostgres, papers: Papers) -> AsyncIterator[Callable[[str, str], str]]:
    """DSNs, by database and role, of a PostgreSQL that speaks nothing but TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(papers.certificate, papers.key)
    async with terminating(postgres_server.port, context) as port:

        def dsn(database: str, role: str) -> str:
            return postgres_server.dsn(database, role).replace(f":{postgres_server.port}/", f":{port}/")

        yield dsn


def nats_tls(papers: Papers, *, verify: bool) -> str:
    return (
        f'tls {{ cert_file: "{papers.certificate}", key_file: "{papers.key}", ca_file: "{papers.ca}",'
        f" verify: {str(verify).lower()} }}\n"
    )


@pytest.fixture(scope="module")
def nats(papers: Papers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"), more=nats_tls(papers, verify=False))
    server.start()
    yield server
    server.stop()


def by_name(url: str) -> str:
    """The server as its certificate calls it."""
    return url.replace("127.0.0.1", "localhost")


def encrypted(url: str) -> str:
    return by_name(url).replace("nats://", "tls://")


async def test_postgres_is_reached_by_tls_with_its_authority_and_name(
    postgres: Callable[[str, str], str], papers: Papers
) -> None:
    dsn = by_name(postgres("event_store", "runroom_command"))
    connection = await connect(f"{dsn}?sslmode=verify-full&sslrootcert={papers.ca}", "test")
    try:
        assert await connection.fetchval("select current_user") == "runroom_command"
    finally:
        await connection.close()


async def test_postgres_is_not_reached_with_another_authority_or_name(
    postgres: Callable[[str, str], str], papers: Papers
) -> None:
    dsn = postgres("event_store", "runroom_command")
    with pytest.raises(asyncpg.PostgresConnectionError):
        await connect(f"{dsn}?sslmode=disable", "test")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"local issuer|self-signed"):
        await connect(f"{by_name(dsn)}?sslmode=verify-full&sslrootcert={papers.other_ca}", "test")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for '127\.0\.0\.1'"):
        await connect(f"{dsn}?sslmode=verify-full&sslrootcert={papers.ca}", "test")


async def test_a_postgres_without_tls_is_told_no_password(postgres_server: EmbeddedPostgres, papers: Papers) -> None:
    dsn = by_name(postgres_server.dsn("event_store", "runroom_command"))
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await connect(f"{dsn}?sslmode=verify-full&sslrootcert={papers.ca}", "test")


async def test_a_password_comes_from_a_file(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    dsn = postgres_server.dsn("event_store", "runroom_command")
    password = dsn.partition("@")[0].rpartition(":")[2]
    file = tmp_path / "pgpass"
    file.touch(mode=0o600)
    bare = dsn.replace(f":{password}@", "@")
    for content, is_let_in in ((password, True), ("another", False)):
        file.write_text(f"*:*:*:runroom_command:{content}\n")
        if is_let_in:
            await (await connect(f"{bare}?passfile={file}", "test")).close()
        else:
            with pytest.raises(asyncpg.InvalidPasswordError):
                await connect(f"{bare}?passfile={file}", "test")


async def test_nats_is_reached_by_tls_with_its_authority_and_name(nats: EmbeddedNats, papers: Papers) -> None:
    async with Broker(encrypted(nats.url), name="test", access=NatsAccess(ca_file=papers.ca)) as broker:
        broker.start()
        async with asyncio.timeout(10):
            await broker.wait_connected()
        # Batches are written past the library, to whatever the connection is.
        await ensure_stream(broker, StreamSettings())
        again = asyncio.Event()

        async def on_connected() -> None:
            again.set()

        broker.on_connected(on_connected)
        await broker.reconnect()
        async with asyncio.timeout(10):
            await again.wait()
        await ensure_stream(broker, StreamSettings())


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_nats_is_not_reached_with_another_authority_or_name(
    nats: EmbeddedNats, papers: Papers, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    access = NatsAccess(ca_file=papers.other_ca if wrong == "authority" else papers.ca)
    url = encrypted(nats.url) if wrong == "authority" else nats.url.replace("nats://", "tls://")
    async with Broker(url, name="test", access=access) as broker:
        broker.start()
        said = ""
        async with asyncio.timeout(10):
            while "broker_refuses" not in said:
                await asyncio.sleep(0.05)
                said += capsys.readouterr().out
        assert ("local issuer" if wrong == "authority" else "IP address mismatch") in said
        assert not broker.is_connected


async def test_a_nats_that_reads_nothing_is_not_waited_for(nats: EmbeddedNats, papers: Papers) -> None:
    much = [Outgoing("much", b"", b"x" * 1_000_000)] * 24
    async with running_proxy(nats.port) as proxy:
        url = encrypted(through(proxy, nats.url))
        broker = Broker(url, name="test", access=NatsAccess(ca_file=papers.ca))
        broker.start()
        await broker.reach(10)
        async with asyncio.timeout(10):
            for end in (broker.reconnect, broker.close):
                proxy.hold()
                asking = asyncio.create_task(broker.client.request_all(much, 60.0))
                await asyncio.sleep(0.1)
                await end()
                with pytest.raises(ConnectionReconnectingError):
                    await asking
                proxy.release()
                if end == broker.reconnect:
                    await broker.wait_connected()


async def test_a_nats_that_goes_silent_in_a_handshake_is_not_waited_for(papers: Papers) -> None:
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.put_nowait(None)
        writer.write(b'INFO {"tls_required": true}\r\n')
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        client = MessagingClient(only_tls=True)
        connecting = asyncio.create_task(
            client.connect(
                f"tls://localhost:{server.sockets[0].getsockname()[1]}",
                tls=NatsAccess(ca_file=papers.ca).tls(),
                connect_timeout=0.1,  # pyright: ignore[reportArgumentType]  # seconds; fractions are fine
                reconnect_time_wait=0.05,  # pyright: ignore[reportArgumentType]
            )
        )
        try:
            async with asyncio.timeout(10):
                await begun.get()
                await begun.get()
        finally:
            await end_tasks(connecting, again_seconds=0.1)
            await client.close()


async def test_a_nats_without_tls_is_told_nothing(nats_server: EmbeddedNats, papers: Papers) -> None:
    """Whoever sits in between could say that there is no TLS."""
    client = MessagingClient(only_tls=True)
    try:
        with pytest.raises(NatsError, match="does not ask for TLS"):
            await client.connect(
                encrypted(nats_server.url),
                tls=NatsAccess(ca_file=papers.ca).tls(),
                user="me",
                password="secret",
                allow_reconnect=False,
            )
    finally:
        await client.close()


async def test_a_client_shows_its_certificate(papers: Papers, tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats", more=nats_tls(papers, verify=True))
    server.start()
    try:
        url = encrypted(server.url)
        access = NatsAccess(ca_file=papers.ca, certificate_file=papers.client)
        async with Broker(url, name="test", access=access) as broker:
            broker.start()
            async with asyncio.timeout(10):
                await broker.wait_connected()
        async with Broker(url, name="test", access=NatsAccess(ca_file=papers.ca)) as broker:
            broker.start()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await broker.wait_connected()
    finally:
        server.stop()


async def test_a_service_stores_and_publishes_by_tls(
    postgres: Callable[[str, str], str],
    migrated_databases: MigratedDatabases,
    nats: EmbeddedNats,
    papers: Papers,
    tmp_path: Path,
) -> None:
    database = urlsplit(migrated_databases.copy("event_store")).path.removeprefix("/")
    tls = f"?sslmode=verify-full&sslrootcert={papers.ca}"
    await migrate(by_name(postgres(database, "runroom_migrate")) + tls, EVENT_STORE_MIGRATIONS)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "EVENT_STORE_DSN": by_name(postgres(database, "runroom_command")) + tls,
        "NATS_URL": encrypted(nats.url),
        "NATS_CA_FILE": str(papers.ca),
        "COMMAND_PORT": str(port),
    }
    service = Service("command", "services.command", port, env=environment, log_file=tmp_path / "command.log")
    service.start()
    try:
        await asyncio.to_thread(service.wait_until_ready)
        async with httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
            answers = await asyncio.gather(*(http.post("/v1/runs", json={"room_id": "a"}) for _ in range(50)))
            assert {answer.status_code for answer in answers} == {201}
        async with Broker(encrypted(nats.url), name="test", access=NatsAccess(ca_file=papers.ca)) as broker:
            broker.start()
            async with asyncio.timeout(10):
                await broker.wait_connected()
                while (await ensure_stream(broker, StreamSettings())).last_seq < 50:
                    await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(service.stop)
