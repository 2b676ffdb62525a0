"""The read models, as pure rules from events to rows: one module each."""

from services.projector.projections.base import Projection
from services.projector.projections.room_feed import RoomFeed
from services.projector.projections.runs import Runs

PROJECTIONS: dict[str, Projection] = {"runs": Runs(), "room_feed": RoomFeed()}
"""Every projection a worker runs, by name."""
