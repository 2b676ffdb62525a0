"""What is done to a compose deployment while it works, and what docs/operations.md has people type, typed."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.stacks import ComposeProject, compose_project
from tests.fault.readers import Reader
from tests.integration.projector.test_releases import next_release
from tests.support.manual import MANUAL, typed, up_to
from tests.support.servers import REPOSITORY

from .watched import expect_broken_connections_alone, told_and_watched

VOLUME, RELAY = "runroom_nats", "runroom-relay"
"""As the manual names them, for the project of the usual name."""


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    with compose_project() as project:
        yield project
        project.run("build")  # the image is not this project's alone, and said to be another revision


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(headers={"x-workspace-id": "operations"}, timeout=40, trust_env=False) as http:
        yield http


def started(project: ComposeProject) -> str:
    """The servers' containers, and when they were started."""
    return project.shell(
        "docker inspect --format '{{.Id}} {{.State.StartedAt}}' $(docker compose ps --quiet postgres nats)"
    )


async def revision(http: httpx.AsyncClient, url: str) -> str:
    found = re.search(r'runroom_build_info{.*revision="(\w+)"', (await http.get(f"{url}/metrics")).text)
    assert found is not None
    return found[1]


async def test_every_service_is_restarted_under_load(project: ComposeProject) -> None:
    """One after another; nothing fails but connections."""
    project.run("up", "--wait", "--no-recreate", "--scale", "projector=2")
    async with told_and_watched(project.deployment, "rolling") as load:
        for service in ("projector", "query", "command", "nats", "postgres"):
            await asyncio.sleep(1.0)
            await asyncio.to_thread(project.run, "restart", service)
            await asyncio.to_thread(project.run, "up", "--wait", "--no-recreate", "--scale", "projector=2")
            # Without its database the command service may say so, and nothing else.
            expect_broken_connections_alone(load, *(["store_unavailable"] if service == "postgres" else []))
    project.run("up", "--wait", "--no-recreate", "--scale", "projector=1")


async def test_an_upgrade_leaves_the_servers_alone(
    project: ComposeProject, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Also where the release has something to say of them."""
    urls = project.deployment
    script = typed("Upgrade it", "docker compose build").replace("$(git rev-parse HEAD)", "next1")
    project.shell(script.splitlines()[0].removesuffix("&&"))  # so that there is not much of it to do under load
    servers = started(project)
    release = tmp_path / "release.yml"
    release.write_text(
        "services: {postgres: {environment: {OF: the-release}}, nats: {environment: {OF: the-release}}}\n"
    )
    async with told_and_watched(urls, "upgraded") as load:
        said = await asyncio.to_thread(project.shell, f"export COMPOSE_FILE=$COMPOSE_FILE:{release}\n{script}")
        assert "all is well" in said
        assert load.acknowledged
        expect_broken_connections_alone(load)
    assert [await revision(http, url) for url in (urls.command_url, urls.query_url)] == ["next1", "next1"]
    assert started(project) == servers
    project.run("up", "--wait")
    assert started(project) == servers


def test_users_of_nats_come_from_the_new_checkout(project: ComposeProject, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "docker-compose.yml", tmp_path)
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "deploy/nats/users.conf").open("a") as users:
        users.write("\n# of the next release\n")
    (command,) = re.findall(r"NATS's users have changed: `(.*?)`", MANUAL)
    project.shell(f"export COMPOSE_FILE={tmp_path}/docker-compose.yml\n{command}")
    assert "# of the next release" in project.run("exec", "-T", "nats", "cat", "/etc/runroom/users.conf")
    project.run("up", "--no-deps", "--force-recreate", "--wait", "nats")


async def tell(project: ComposeProject, http: httpx.AsyncClient, room_id: str) -> dict[str, str]:
    answer = await http.post(f"{project.deployment.command_url}/v1/runs", json={"room_id": room_id})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def read(project: ComposeProject, http: httpx.AsyncClient, run: dict[str, str], **params: int) -> int:
    """The status of reading the run."""
    return (await http.get(f"{project.deployment.query_url}/v1/runs/{run['run_id']}", params=params)).status_code


async def are_there(project: ComposeProject, http: httpx.AsyncClient, runs: list[dict[str, str]]) -> bool:
    """Whether all can be read, which may take a while."""
    return {await read(project, http, run, min_seq=int(run["stream_seq"]), wait=30_000) for run in runs} == {200}


async def tell_all_the_time(project: ComposeProject, http: httpx.AsyncClient, told: list[dict[str, str]]) -> None:
    """An engine that does not know what is going on."""
    while True:
        try:
            told.append(await tell(project, http, "a"))
        except httpx.TransportError:
            await asyncio.sleep(0.05)


async def level(project: ComposeProject) -> None:
    """Types `verify` as often as it takes."""
    async with asyncio.timeout(60):
        while True:
            said = await asyncio.to_thread(project.shell, "docker compose run --rm operator verify || true")
            if all(part in said for part in ("all is well", " 0 events not yet published", "room_feed 0, runs 0")):
                return


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


def renamed(script: str, project: ComposeProject) -> str:
    return script.replace(VOLUME, f"{project.name}_nats").replace(RELAY, f"{project.name}-relay")


async def test_a_backup_is_brought_back(project: ComposeProject, http: httpx.AsyncClient, tmp_path: Path) -> None:
    kept = [await tell(project, http, room) for room in ("a", "b", "a")]
    project.shell(typed("Back it up", "docker compose exec"), folder=tmp_path)
    lost = await tell(project, http, "a")
    assert await are_there(project, http, [*kept, lost])
    viewer = Reader([project.deployment.query_url], "operations", "a", 0)
    again: list[dict[str, str]] = []
    tasks = [asyncio.create_task(viewer.run())]
    await until(lambda: viewer.last_seq == 3)
    script = renamed(typed("Bring it back", "docker compose exec"), project)
    assert f"{project.name}_nats" in script
    dump = tmp_path / "event_store.dump"
    whole = dump.read_bytes()
    for broken in (whole[: len(whole) // 2], None):
        dump.write_bytes(broken) if broken else dump.unlink()
        with pytest.raises(AssertionError, match=r"could not read from input file|event_store\.dump"):
            await asyncio.to_thread(project.shell, script, folder=tmp_path)
        assert await are_there(project, http, [*kept, lost]), "nothing was dropped"
    dump.write_bytes(whole)
    await asyncio.to_thread(project.shell, up_to(script, "dropdb"), folder=tmp_path)
    tasks.append(asyncio.create_task(tell_all_the_time(project, http, again)))
    try:
        for part in ("docker volume rm", "--detach"):
            await asyncio.to_thread(project.shell, up_to(script, part), folder=tmp_path)
        await asyncio.to_thread(project.shell, script, folder=tmp_path)
        await level(project)
        end = renamed(typed("Bring it back", "docker compose up --no-deps --wait query"), project)
        viewers, commands = end.split(" && sleep 60 &&\n")
        await asyncio.to_thread(project.shell, viewers)
        await until(lambda: viewer.resets == 1)
        assert not again
        said = await asyncio.to_thread(project.shell, commands)
        assert "all is well" in said
        await until(lambda: viewer.last_seq > 20)
    finally:
        for task in tasks:
            task.cancel()
    assert int(again[0]["stream_seq"]) == int(lost["stream_seq"]) == 3
    assert [seq for seq, _ in viewer.seen] == [1, 2, 3, *range(3, viewer.last_seq + 1)]
    assert await are_there(project, http, [*kept, *again[:20]])
    assert await read(project, http, lost) == 404


async def test_a_stolen_credential_is_replaced_though_the_first_try_ends_early(
    project: ComposeProject, http: httpx.AsyncClient
) -> None:
    script = typed("When a credential is stolen", "docker compose stop command").replace(
        "runroom_secrets", f"{project.name}_secrets"
    )
    await asyncio.to_thread(project.shell, up_to(script, "docker volume rm"))
    await asyncio.to_thread(project.shell, script)
    assert await are_there(project, http, [await tell(project, http, "replaced")])


async def test_a_release_with_other_tables_is_rolled_out_and_reads_go_on(
    project: ComposeProject, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The last of all: what follows would be of that release."""
    release = next_release(tmp_path / "release")
    for name in ("docker-compose.yml", "requirements.lock", ".dockerignore"):
        shutil.copy(REPOSITORY / name, release)
    shutil.copytree(REPOSITORY / "deploy", release / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    script = typed("Upgrade it", "docker compose build").replace("$(git rev-parse HEAD)", "next2")
    replacing = "docker compose up --no-deps --wait projector &&\n"
    assert script.count(replacing) == 1
    script = script.replace(replacing, typed("Upgrade it", "docker compose up --no-deps --no-recreate"))
    script = f"export COMPOSE_FILE={release}/docker-compose.yml\n{script}"
    upgrade = asyncio.create_task(asyncio.to_thread(project.shell, script))
    reads = 0
    while not upgrade.done():
        try:
            run = await tell(project, http, "tables")
            assert await read(project, http, run, min_seq=int(run["stream_seq"]), wait=15_000) == 200
            reads += 1
        except httpx.TransportError:
            await asyncio.sleep(0.1)  # the service is being replaced
    said = await upgrade
    assert "switched to runs@2; runs is kept" in said
    assert "all is well" in said
    assert reads > 10
    assert len(project.run("ps", "--quiet", "projector").split()) == 1
    assert await revision(http, project.deployment.query_url) == "next2"
