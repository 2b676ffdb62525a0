"""Minting identifiers: TypeIDs over UUIDv7 (RFC 9562), which sort by creation.

Invariant: an id is minted once, here; within a process each sorts after the one before.
"""

from typeid import TypeID
from uuid_utils import uuid4, uuid7

from shared.contracts.ids import RUN_PREFIX, STEP_PREFIX


class MintedIds:
    """The ``Ids`` of production."""

    def run_id(self) -> str:
        return str(TypeID(prefix=RUN_PREFIX))

    def step_id(self) -> str:
        return str(TypeID(prefix=STEP_PREFIX))

    def event_id(self) -> str:
        return str(uuid7())

    def correlation_id(self) -> str:
        return str(uuid4())
