"""Faults, a minute or two of them: each run draws some, in an order and with details told by a seed that it prints.

``make fault`` injects all of them.
"""

import random
import time
from pathlib import Path

import pytest

from tests.fault.campaign import run_campaign
from tests.fault.disks import NoSmallDiskError
from tests.fault.faults import STAGES

MOST_FAULTS = 8

# The port is closed; or an idle connection was, at the very moment the client used it again. Nothing was done then,
# and with its key the command is sent again.
HARMLESS = {"ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}


@pytest.mark.parametrize("name", STAGES)
async def test_nothing_is_lost_repeated_or_reordered(name: str, tmp_path: Path) -> None:
    seed = int(time.time()) % 1_000_000
    stage = STAGES[name]
    faults = random.Random(seed).sample(sorted(stage.each), k=min(len(stage.each), MOST_FAULTS))
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
