"""Each fault once, in an order and with details told by a seed that every run draws anew and prints."""

import random
import time
from pathlib import Path

from tests.fault.campaign import run_campaign
from tests.fault.faults import FAULTS


async def test_nothing_is_lost_repeated_or_reordered(tmp_path: Path) -> None:
    seed = int(time.time()) % 1_000_000
    faults = sorted(FAULTS)
    random.Random(seed).shuffle(faults)
    print(f"seed {seed}")
    report = await run_campaign(tmp_path, [(name,) for name in faults], seed, print)
    assert len(report.injected) == len(faults)
    assert report.accounts.acknowledged > 100
    assert report.accounts.balanced, report.accounts
    assert report.verified
