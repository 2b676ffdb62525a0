"""Reading stored events: the registry by (type, version), and the hook that lifts old versions to the current one.

Invariant: a stored event is never rewritten. Whoever reads one gets it in the version this code was written for, or an
exception that says why not; never a guess.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import msgspec

from shared.contracts.events import EVENT_CLASSES, Event, event_type_of
from shared.contracts.numbers import count_long_exponents, read_float

_FEW_LONG_EXPONENTS = 50
_FEW_BYTES = 1024
"""Of an envelope that is read as it is: what it may have of such numbers takes 1 or 2 ms."""
_MOST_LONG_EXPONENTS = 1024 * 1024 // len("1e10")
"""More than an event can have that came as a command, whose body is 1 MiB at the most. Strings may look like them."""
_MOST_MEMBERS = 1024 * 1024 + 4096
"""The same of commas, colons and opening brackets. A small object takes 46 times its bytes once it is read."""
_MOST_BYTES = 8 * 1024 * 1024 + 64 * 1024
"""Of an envelope. A body of 1 MiB may be 4 as it is written: ``1e15`` is written out."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the envelope of version n as a JSON object and gives that of version n + 1, ``event_version`` included."""


class UndecodableEventError(Exception):
    """The bytes are not an event this version of Runroom can read."""


class UnknownEventError(UndecodableEventError):
    """No event of this type and version is registered."""


class _Head(msgspec.Struct):
    event_type: str
    event_version: int


def version_of(cls: type[Event]) -> int:
    """The version that a class of events describes: what it has for ``event_version`` by default."""
    defaults = dict(zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False))
    return int(defaults["event_version"])


class _Decoders:
    """Of an event as it is now, and of the members of any."""

    def __init__(self, union: Any, **options: Any) -> None:
        self.event = msgspec.json.Decoder[Event](union, **options)
        self.members = msgspec.json.Decoder[Any](**options)


class EventRegistry:
    """Decodes envelopes of any registered (type, version) into current events.

    ``classes`` are the current events, one for each type; its version is the default of its ``event_version``.
    ``upcasters`` maps (type, n) to the function that gives version n + 1; a chain of them reaches the current one.
    """

    def __init__(
        self,
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
        classes: Sequence[type[Event]] = EVENT_CLASSES,
    ) -> None:
        self._upcasters = dict(upcasters or {})
        self._versions = {str(cls.__struct_config__.tag): version_of(cls) for cls in classes}
        self._union: Any = Union[tuple(classes)]  # noqa: UP007  # of as many as there are
        self._decoders = _Decoders(self._union)
        self._patient = _Decoders(self._union, float_hook=read_float)
        self._head = msgspec.json.Decoder(_Head)

    def decode(self, envelope: bytes) -> Event:
        """The event in its current version.

        Raises ``UnknownEventError`` for a type or version that is not registered and ``UndecodableEventError`` for
        bytes that are no event.
        """
        decoders = self._decoders_for(envelope)
        try:
            event = decoders.event.decode(envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._lift(envelope, decoders, error)
        if event.event_version == self._versions[event_type_of(event)]:
            return event
        return self._lift(envelope, decoders, None)

    def _decoders_for(self, envelope: bytes) -> "_Decoders":
        if len(envelope) > _MOST_MEMBERS:
            if len(envelope) > _MOST_BYTES:
                raise UndecodableEventError(f"{len(envelope)} bytes are more than {_MOST_BYTES}")
            if sum(map(envelope.count, (b",", b":", b"{", b"["))) > _MOST_MEMBERS:
                raise UndecodableEventError(f"there are more than {_MOST_MEMBERS} members and elements")
        if len(envelope) <= _FEW_BYTES or (count := count_long_exponents(envelope)) <= _FEW_LONG_EXPONENTS:
            return self._decoders
        if count > _MOST_LONG_EXPONENTS:
            raise UndecodableEventError(f"{count} numbers have an exponent of three digits, and take too long to read")
        return self._patient

    def _lift(self, envelope: bytes, decoders: "_Decoders", cause: Exception | None) -> Event:
        try:
            head = self._head.decode(envelope)
            current = self._versions.get(head.event_type)
            if current is None or head.event_version > current:
                raise UnknownEventError(f"no event {head.event_type} version {head.event_version} is known here")
            if head.event_version == current:
                raise UndecodableEventError(f"{head.event_type} version {current} does not decode: {cause}")
            members: dict[str, Any] = decoders.members.decode(envelope)
            version = head.event_version
            while version < current:
                upcaster = self._upcasters.get((head.event_type, version))
                if upcaster is None:
                    raise UnknownEventError(f"no upcaster for {head.event_type} version {version}")
                members = upcaster(members)
                version += 1
            return msgspec.convert(members, self._union)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UndecodableEventError(f"not an event envelope: {error}") from error


registry = EventRegistry()
"""The registry of this release. There is one version of every event so far, hence no upcaster."""
