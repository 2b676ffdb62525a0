"""Every service of a compose deployment restarted under load, one after another."""

import asyncio

from tests.contract.stacks import compose_project

from .watched import expect_broken_connections_alone, told_and_watched


async def test_nothing_fails_but_connections() -> None:
    with compose_project("--scale", "projector=2") as project:
        async with told_and_watched(project.deployment, "rolling") as load:
            for service in ("projector", "query", "command", "nats", "postgres"):
                await asyncio.sleep(1.0)
                await asyncio.to_thread(project.run, "restart", service)
                await asyncio.to_thread(project.run, "up", "--wait", "--no-recreate", "--scale", "projector=2")
                # Without its database the command service may say so, and nothing else.
                expect_broken_connections_alone(load, *(["store_unavailable"] if service == "postgres" else []))
