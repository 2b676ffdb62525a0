"""Each fault once, in an order and with details told by a seed that every run draws anew and prints."""

import random
import time
from pathlib import Path

import pytest

from tests.fault.campaign import run_campaign
from tests.fault.disks import NoSmallDiskError
from tests.fault.faults import STAGES

# The port is closed; or an idle connection was, at the very moment the client used it again. Nothing was done then,
# and with its key the command is sent again.
HARMLESS = {"ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}


@pytest.mark.parametrize("name", STAGES)
async def test_nothing_is_lost_repeated_or_reordered(name: str, tmp_path: Path) -> None:
    seed = int(time.time()) % 1_000_000
    stage = STAGES[name]
    faults = sorted(stage.each)
    random.Random(seed).shuffle(faults)
    print(f"seed {seed}")
    try:
        report = await run_campaign(tmp_path, stage, [(fault,) for fault in faults], seed, print)
    except NoSmallDiskError as error:
        pytest.skip(f"a full disk cannot be staged here: {error}")
    assert len(report.injected) == len(faults)
    assert report.accounts.acknowledged > 100
    assert report.accounts.balanced, report.accounts
    assert report.verified
    if name == "release":
        assert report.asked_again.keys() <= HARMLESS, report.asked_again
