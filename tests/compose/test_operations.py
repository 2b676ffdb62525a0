"""What docs/operations.md has people type on compose, typed: upgrade, back up, bring back."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.stacks import ComposeProject, compose_project
from tests.integration.projector.test_releases import next_release
from tests.support.manual import typed, up_to
from tests.support.servers import REPOSITORY

from .watched import expect_broken_connections_alone, told_and_watched

VOLUME = "runroom_nats"
"""As the manual names it, for the project of the usual name."""


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


async def test_an_upgrade_leaves_the_servers_alone(project: ComposeProject, http: httpx.AsyncClient) -> None:
    urls = project.deployment
    script = typed("Upgrade it", "docker compose build").replace("$(git rev-parse HEAD)", "next1")
    project.shell(script.splitlines()[0].removesuffix("&&"))  # so that there is not much of it to do under load
    servers = started(project)
    async with told_and_watched(urls, "upgraded") as load:
        said = await asyncio.to_thread(project.shell, script)
        assert "all is well" in said
        assert load.acknowledged
        expect_broken_connections_alone(load)
    assert [await revision(http, url) for url in (urls.command_url, urls.query_url)] == ["next1", "next1"]
    assert started(project) == servers
    project.run("up", "--wait")
    assert started(project) == servers


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


async def test_a_backup_is_brought_back(project: ComposeProject, http: httpx.AsyncClient, tmp_path: Path) -> None:
    kept = [await tell(project, http, room) for room in ("a", "b", "a")]
    project.shell(typed("Back it up", "docker compose exec"), folder=tmp_path)
    lost = await tell(project, http, "a")
    assert await are_there(project, http, [*kept, lost])
    script = typed("Bring it back", "docker compose exec").replace(VOLUME, f"{project.name}_nats")
    assert f"{project.name}_nats" in script
    dump = tmp_path / "event_store.dump"
    whole = dump.read_bytes()
    for broken in (whole[: len(whole) // 2], None):
        dump.write_bytes(broken) if broken else dump.unlink()
        with pytest.raises(AssertionError, match=r"could not read from input file|event_store\.dump"):
            await asyncio.to_thread(project.shell, script, folder=tmp_path)
        assert await are_there(project, http, [*kept, lost]), "nothing was dropped"
    dump.write_bytes(whole)
    for part in ("dropdb", "docker volume rm"):
        await asyncio.to_thread(project.shell, up_to(script, part), folder=tmp_path)
    said = await asyncio.to_thread(project.shell, script, folder=tmp_path)
    assert "all is well" in said
    again = await tell(project, http, "a")
    assert again["stream_seq"] == lost["stream_seq"]
    assert await are_there(project, http, [*kept, again])
    assert await read(project, http, lost) == 404


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
