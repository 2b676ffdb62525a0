"""``python -m services.projector verify``: the whole comparison, in one pass over everything."""

import contextlib
from pathlib import Path

from services.projector.places import Places
from services.projector.projections import PROJECTIONS
from services.projector.verify.lag import LagCheck
from services.projector.verify.report import CannotLookError, Report
from services.projector.verify.rooms import RoomsCheck, pages
from services.projector.verify.stream import ALL_PARTITIONS, StreamCheck
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.postgres import STORE_ERRORS, Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_NAME = "runroom-projector"
_CONNECT_SECONDS = 10.0


async def verify(where: Places, report: Report) -> bool:
    """Compares everything. Whether all is well. Raises ``CannotLookError``."""
    try:
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(connected(where.event_store_dsn, _NAME))
            projections = await stack.enter_async_context(connected(where.projection_dsn, _NAME))
            await _know_schemas(projections)
            broker = Broker(where.nats_url, name=_NAME, access=where.nats_access)
            stack.push_async_callback(broker.close)
            broker.start()
            await broker.reach(_CONNECT_SECONDS)
            rooms = RoomsCheck(store, projections, report)
            stream = StreamCheck(broker, store, report)
            lag = LagCheck(store, projections, report)
            async for page in pages(store):
                seen = await rooms.compare(page)
                await rooms.run_states(page)
                lag.see(seen)
                await stream.tails(seen)
            await rooms.runs_of_no_event()
            await rooms.steps_of_no_run()
            await rooms.tags_of_runs()
            upto = await stream.state()
            for number in ALL_PARTITIONS:
                await stream.partition(number, upto)
            await lag.settle()
    except BrokerUnavailableError as error:
        raise CannotLookError(str(error)) from error
    except STORE_ERRORS as error:
        raise CannotLookError(f"{type(error).__name__}: {error}") from error
    report.finish()
    return report.all_is_well


async def _know_schemas(projections: Connection) -> None:
    for row in await projections.fetch(_SQL["active_versions"]):
        schema = PROJECTIONS[row["projection"]].schema
        if row["schema"] != schema:
            raise CannotLookError(
                f"{row['name']}, which is read, has tables of schema {row['schema']}, and this release is for schema"
                f" {schema}: rebuild {row['projection']}, or use the release that made it"
            )
