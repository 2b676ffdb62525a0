"""The stream ``ROOMS``: its configuration, and the identity by which readers know it is still the same one.

Invariant: a stream that was recreated, or came back as an older copy of itself, never passes for the one a position was
taken in. Positions are only compared under the same ``StreamIdentity``. Its configuration is what the relay wants, or
becomes so within seconds.
"""

from typing import Any, NamedTuple

import structlog

from shared.contracts.subjects import STREAM, STREAM_SUBJECTS
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError, number_in
from shared.telemetry import LineBudget, Logger

_EPOCH = "runroom-epoch"
_REWOUND_TO = "runroom-rewound-to"
_FILLED = "runroom-filled"
"""Names the identity under which the relay has filled the stream: one made or marked since is not filled."""
_NOT_FOUND = 10059
_NANOSECONDS = 1_000_000_000
_MOST_DIGITS = 18
_MOST_EPOCH = 2**53 - 1
"""The last that the event store takes. After it comes 0 again."""
_MOST_EPOCHS = 1000
"""Which nobody lets pass unseen: a leader that dies between marking and recounting does so with one, and an event store
that was restored may know fewer."""
CONSUMER_SECONDS = 60
"""After which a consumer goes that nobody reads by; a projector's own go sooner."""

_log: Logger = structlog.get_logger("stream")
_refused = LineBudget(1)


class StreamSettings(NamedTuple):
    replicas: int = 1
    max_age_seconds: int = 30 * 24 * 3600
    max_consumers: int = 4096


class StreamIdentity(NamedTuple):
    """Which life of the stream a position belongs to.

    ``created`` is the broker's own time stamp of the stream; ``epoch`` is counted up by the relay each time it finds
    that the broker came back with an older copy, whose last message was ``rewound_to``.
    """

    created: str
    epoch: int
    rewound_to: int

    @property
    def key(self) -> str:
        """The identity as one text, for storing beside a position."""
        return f"{self.created}/{self.epoch}"


class StreamState(NamedTuple):
    """``is_filled``: it holds what the event store had when the relay found it new or rewound."""

    identity: StreamIdentity
    first_seq: int
    last_seq: int
    is_filled: bool


def _state(info: dict[str, Any]) -> StreamState:
    identity = _identity(info)
    if identity is None:
        raise BrokerUnavailableError("the stream's marks are not to be read")
    state: dict[str, Any] = info["state"]
    is_filled = _metadata(info).get(_FILLED) == identity.key
    return StreamState(identity, number_in(state, "first_seq"), number_in(state, "last_seq"), is_filled)


def _metadata(info: dict[str, Any]) -> dict[str, str]:
    return info["config"].get("metadata") or {}


def _identity(info: dict[str, Any]) -> StreamIdentity | None:
    """None when somebody has made the marks what they never are."""
    metadata = _metadata(info)
    epoch, rewound_to = metadata.get(_EPOCH, "0"), metadata.get(_REWOUND_TO, "0")
    if (
        not all(mark.isdecimal() and len(mark) <= _MOST_DIGITS for mark in (epoch, rewound_to))
        or int(epoch) > _MOST_EPOCH
    ):
        return None
    return StreamIdentity(str(info["created"]), int(epoch), int(rewound_to))


def _marks(epoch: int, rewound_to: int) -> dict[str, str]:
    """Whoever goes back further than to where the stream was rewound loses nothing by it."""
    return {_EPOCH: str(epoch), _REWOUND_TO: str(min(rewound_to, 10**_MOST_DIGITS - 1))}


async def stream_state(broker: Broker) -> StreamState | None:
    """The stream as it is now, or None when there is none.

    Raises ``BrokerUnavailableError``, also while its marks cannot be read: the relay puts them right.
    """
    try:
        return _state(await broker.jetstream(f"STREAM.INFO.{STREAM}"))
    except JetStreamError as error:
        if error.code == _NOT_FOUND:
            return None
        raise


async def ensure_stream(broker: Broker, settings: StreamSettings, known: StreamIdentity | None = None) -> StreamState:
    """The stream, created if there is none, and put right if it is not as it should be.

    ``known`` is the identity it was last seen with, behind which nobody sets it back, or what somebody has recorded as
    such. Only the relay calls this: it alone can fill a new one.

    Raises ``BrokerUnavailableError`` or ``JetStreamError``.
    """
    try:
        info = await broker.jetstream(f"STREAM.INFO.{STREAM}")
    except JetStreamError as error:
        if error.code != _NOT_FOUND:
            raise
        config = {"name": STREAM, **_wanted(settings), "metadata": _marks(0, 0)}
        info = await broker.jetstream(f"STREAM.CREATE.{STREAM}", config, seconds=10.0)
    else:
        info = await _put_right(broker, info, settings, known)
    return _state(info)


def _wanted(settings: StreamSettings) -> dict[str, Any]:
    return {
        "subjects": [STREAM_SUBJECTS],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": settings.replicas,
        "max_age": settings.max_age_seconds * _NANOSECONDS,
        "max_consumers": settings.max_consumers,
        "consumer_limits": {"inactive_threshold": CONSUMER_SECONDS * _NANOSECONDS},
        "max_msgs": -1,
        "max_bytes": -1,
        "duplicate_window": 120 * _NANOSECONDS,
        "allow_atomic": True,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    }


_UNTOUCHED: dict[str, Any] = {
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard_new_per_subject": False,
    "no_ack": False,
    "republish": None,
    "subject_transform": None,
    "sources": None,
    "mirror_direct": False,
    "allow_rollup_hdrs": False,
    "allow_batched": False,
    "allow_msg_counter": False,
    "allow_msg_schedules": False,
    "persist_mode": None,
    "mirror": None,
    "sealed": False,
    "first_seq": None,
}
"""What the relay leaves to the server, as the server has it then. Where the stream lies, and how it is packed, may be
changed by whoever runs the server."""


async def _put_right(
    broker: Broker, info: dict[str, Any], settings: StreamSettings, known: StreamIdentity | None
) -> dict[str, Any]:
    """The key of the relay is good for changing the stream, in anybody's hands; and settings change."""
    wanted = {**_UNTOUCHED, **_wanted(settings), **_remarked(info, known)}
    changes = {name: value for name, value in wanted.items() if (info["config"].get(name) or None) != (value or None)}
    if not changes:
        return info
    # What cannot be changed, such as to more copies than there are servers, keeps nothing else from being put right.
    refused: dict[str, str] = {}
    for part in (changes, *({name: value} for name, value in changes.items())):
        try:
            info = await broker.jetstream(f"STREAM.UPDATE.{STREAM}", {**info["config"], **part}, seconds=10.0)
        except JetStreamError as error:
            if part is not changes:
                refused |= dict.fromkeys(part, str(error))
        else:
            _log.warning("stream_put_right", changes=sorted(part))
            if part is changes:
                break
    if refused and (left_out := _refused.take()) is not None:
        error = "; ".join(sorted(set(refused.values())))
        _log.error("stream_not_put_right", changes=sorted(refused), error=error, left_out=left_out)
    return info


def _remarked(info: dict[str, Any], known: StreamIdentity | None) -> dict[str, Any]:
    """The marks to be set where they are not to be read, older than they are known to be, or no relay's.

    Of an epoch that is known and one that is found, further apart than relays come, the higher is nobody's.
    """
    found = _identity(info)
    epoch, rewound_to = known[1:] if known is not None and known.created == info["created"] else (0, 0)
    is_ours = found is not None and (epoch <= found.epoch <= epoch + _MOST_EPOCHS or found.epoch + _MOST_EPOCHS < epoch)
    return {} if is_ours else {"metadata": _marks(epoch, rewound_to)}


async def mark_rewound(broker: Broker, state: StreamState) -> StreamState:
    """Gives a stream that came back older than it was a new identity, for readers to see."""
    info = await broker.jetstream(f"STREAM.INFO.{STREAM}")
    config: dict[str, Any] = info["config"]
    config["metadata"] = _marks((state.identity.epoch + 1) % (_MOST_EPOCH + 1), state.last_seq)
    return _state(await broker.jetstream(f"STREAM.UPDATE.{STREAM}", config, seconds=10.0))


async def mark_filled(broker: Broker, identity: StreamIdentity) -> None:
    """Says that the stream holds what it has to. Of any other than the one of that identity it says nothing."""
    info = await broker.jetstream(f"STREAM.INFO.{STREAM}")
    metadata = {**_metadata(info), _FILLED: identity.key}
    await broker.jetstream(f"STREAM.UPDATE.{STREAM}", {**info["config"], "metadata": metadata}, seconds=10.0)
