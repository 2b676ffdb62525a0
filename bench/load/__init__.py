"""Load from a process of its own: ``run_load`` starts it, hands it a plan, and gives what it counted."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import msgspec

from bench.load.plan import Counted, Plan
from deploy.local.service import ROOT

__all__ = ["Counted", "Plan", "run_load"]

_PATIENCE_SECONDS = 120.0


async def run_load(plan: Plan) -> Counted:
    """Raises ``AssertionError`` when anything but a success was answered, or the client failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(plan.seconds + _PATIENCE_SECONDS):
            printed, complaints = await process.communicate(msgspec.json.encode(plan))
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0, complaints.decode(errors="replace")
    counted = msgspec.json.decode(printed, type=Counted)
    assert not counted.refused, f"answers that are no success: {counted.refused}"
    return counted
