"""What may wait is counted by what is held of it, bodies that are yet to be read among it."""

import asyncio

import pytest

from services.command.domain.batch import Request
from services.command.domain.commands import StartRun
from services.command.submissions import OverloadedError, StoreUnavailableError, Submissions
from tests.unit.command.given import CALLER, TIME

REQUEST = Request(CALLER, StartRun(run_id="run_1"), TIME)


def submissions() -> Submissions:
    return Submissions(most_commands=3, most_bytes=100, batch_commands=10, patience=0.05)


async def test_a_body_that_waits_to_be_read_takes_its_room() -> None:
    waiting = submissions()
    with waiting.expecting(100):
        with pytest.raises(OverloadedError), waiting.expecting(1):
            pass
        with pytest.raises(OverloadedError):
            await waiting.submit(REQUEST, 1)
    with waiting.expecting(1), waiting.expecting(1), waiting.expecting(1), pytest.raises(OverloadedError):
        await waiting.submit(REQUEST, 1)
    with pytest.raises(StoreUnavailableError):
        await waiting.submit(REQUEST, 1)


async def test_a_queue_that_is_full_takes_no_body_to_be_read_until_somebody_has_an_answer() -> None:
    waiting = submissions()
    submitted = asyncio.create_task(waiting.submit(REQUEST, 100))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError), waiting.expecting(1):
        pass
    with pytest.raises(StoreUnavailableError):
        await submitted
    with waiting.expecting(1):
        assert waiting.take() == [], "what was answered is gone from the queue"
