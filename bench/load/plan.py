"""What a load client is to do, and what it reports."""

from typing import Literal

from msgspec import Struct

from bench.harness import Figures


class Plan(Struct, frozen=True, kw_only=True):
    """``callers`` connections to ``port``, each with one request at a time, for ``seconds``.

    ``create``: runs in the ``rooms``, one after another. ``follow``: the same with a viewer on each of the rooms at
    ``feed_port``; a caller goes on once the frame of its event has come. ``life``: whole runs of eight commands.
    ``get``: the ``paths``, one after another. With ``rate`` requests are sent at so many a second, whatever the answers
    do, and latency counts from when a request was due. ``bodies``: what each of the paths must answer, byte for byte.
    """

    kind: Literal["create", "life", "get", "follow"]
    port: int
    feed_port: int = 0
    seconds: float
    callers: int = 64
    rooms: list[str] = []
    paths: list[str] = []
    bodies: list[str] = []
    rate: float = 0.0
    workspace_id: str = "bench"


class Counted(Struct, frozen=True, kw_only=True):
    """``requests`` that succeeded; percentiles of latency in milliseconds, ``by_path`` the median of each.

    ``refused``: other answers by status. ``frame_p50`` and ``frame_p99`` are from when a request was sent, or was due,
    until its event's frame had come.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    most: float
    by_path: dict[str, float] = {}
    frame_p50: float = 0.0
    frame_p99: float = 0.0
    refused: dict[str, int]

    def figures(self, what: str) -> Figures:
        return {f"{what}/s": self.requests / self.seconds, "p50 ms": self.p50, "p99 ms": self.p99}

    def frame_figures(self) -> Figures:
        return {"frame p50 ms": self.frame_p50, "frame p99 ms": self.frame_p99}
