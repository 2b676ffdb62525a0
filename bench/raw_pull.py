"""``python -m bench.raw_pull``: the floor of a projector. Pulls the messages of the stream and applies nothing.

One ephemeral consumer of the whole stream, pulled from with a callback. A plan on standard input, the seconds it took
on standard output.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from deploy.local.service import ROOT
from shared.contracts.subjects import STREAM

_NAME = "raw-pull"
_PULL_MESSAGES = 5000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    nats_url: str
    messages: int


async def pull_raw(plan: Plan) -> float:
    """The seconds. Raises ``AssertionError`` unless each message came, in order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.raw_pull", cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    printed, complaints = await process.communicate(msgspec.json.encode(plan))
    assert process.returncode == 0, complaints.decode(errors="replace")
    return float(printed)


async def _pull(plan: Plan) -> float:
    client = await nats.connect(plan.nats_url)
    config = {"name": _NAME, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "num_replicas": 1}
    request = {"stream_name": STREAM, "action": "create", "config": config}
    started = time.perf_counter()
    answer = await client.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.{_NAME}", json.dumps(request).encode())
    assert "error" not in json.loads(answer.data), answer.data
    inbox = client.new_inbox()
    ask = json.dumps({"batch": _PULL_MESSAGES, "expires": 30_000_000_000}).encode()
    at = asked = 0
    done = asyncio.Event()

    async def more() -> None:
        nonlocal asked
        asked += _PULL_MESSAGES
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{_NAME}", ask, reply=inbox)

    async def receive(message: Msg) -> None:
        nonlocal at
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream position>.<consumer seq>.<time>.<pending>
        if not message.reply:
            return
        position = int(message.reply.split(".")[5])
        assert position == at + 1, f"message {position} after {at}"
        at = position
        if at == plan.messages:
            done.set()
        elif asked - at == _PULL_MESSAGES // 2:
            await more()

    await client.subscribe(inbox, cb=receive, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await more()
    async with asyncio.timeout(300):
        await done.wait()
    seconds = time.perf_counter() - started
    await client.request(f"$JS.API.CONSUMER.DELETE.{STREAM}.{_NAME}", b"")
    await client.close()
    return seconds


def main() -> int:
    print(uvloop.run(_pull(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
