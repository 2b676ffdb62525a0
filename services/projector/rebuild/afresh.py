"""Whether a new version is as a fresh fold of the event store.

Invariant: a page of rooms is passed over only if this command's own fill has held all of its rows against their fold,
and nothing of it has moved since. Everything else is read, folded and compared anew.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from services.projector.rebuild.fill import CHECKED_VIEWS, LOOK_UP, NAME, Filled, Target
from services.projector.rebuild.tables import VIEWS
from services.projector.verify.report import Findings, Report
from services.projector.verify.rooms import Page, RoomsCheck
from shared.postgres import Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")


class Extent(NamedTuple):
    """What a version holds of a page. ``events`` can only grow: as long as it is the same, nothing has moved.

    ``whole``: no room is yet to be filled, and none leaves an event out.
    """

    rooms: int
    events: int
    whole: bool


Extents = dict[Page, Extent | None]
"""All pages, and what a version held of them when their rows were known to be right; None if they are not."""


async def known_extents(
    all_pages: Sequence[Page], projections: Connection, target: Target, filled: Filled | None
) -> Extents:
    """``filled`` is a whole fill of the version, after which nothing has moved yet; None if there was none just now."""
    extents: Extents = {}
    # Whoever may write as a worker may say of a room that it is filled already.
    rooms, events = Counter[Page](), Counter[Page]()
    for page, some_rooms, some_events in filled.extents if filled is not None else ():
        rooms[page] += some_rooms
        events[page] += some_events
    for page in all_pages:
        extents[page] = None
        if filled is None or not CHECKED_VIEWS.issuperset(VIEWS[target.projection]):
            continue
        extent = await _extent(projections, target, page)
        is_ours = extent == Extent(rooms[page], events[page], whole=True)
        if is_ours and not any(page.holds(key) for key in filled.unchecked):
            extents[page] = extent
    return extents


async def pages_to_compare(projections: Connection, target: Target, extents: Extents, report: Report) -> list[Page]:
    """The report counts those that need not be looked at again."""
    left: list[Page] = []
    for page, extent in extents.items():
        if extent is not None and extent == await _extent(projections, target, page):
            report.rooms += extent.rooms
            report.events += extent.events
        else:
            left.append(page)
    return left


async def compare_pages(target: Target, portion: Sequence[Page], _: Callable[[int], None]) -> Findings:
    """Folds the events of the pages and holds the version against that. Raises one of ``STORE_ERRORS``."""
    lines: list[str] = []
    report = Report(lines.append)
    async with connected(target.event_store_dsn, NAME) as store, connected(target.projection_dsn, NAME) as projections:
        await projections.execute(LOOK_UP)
        await _show_alone(projections, target)
        check = RoomsCheck(store, projections, report)
        for page in portion:
            await check.compare(page)
    return Findings(lines, report.differences, report.rooms, report.events)


async def _extent(projections: Connection, target: Target, page: Page) -> Extent:
    [row] = await projections.fetch(_SQL["extent_between"], *page.bounds, target.name)
    return Extent(*row)


async def _show_alone(projections: Connection, target: Target) -> None:
    """Has the session see the version, and nothing else, where readers see what they read."""
    for name, views in VIEWS.items():
        for view in views:
            source = f"{view}_v{target.version}" if name == target.projection else f"public.{view} where false"
            await projections.execute(f"create temp view {view} as select * from {source}")  # noqa: S608
    await projections.execute(
        f"""create temp view proj_applied as
        select '{target.projection}'::text as projection, workspace_id, room_id, applied_seq from public.proj_rooms
        where projection = '{target.name}';
        create temp view projector_parked as
        select * from public.projector_parked where skipped_at is not null and projection = '{target.name}';
        create temp view projector_versions as
        select 'active' as state, '{target.name}' as name, '{target.projection}' as projection"""  # noqa: S608
    )
