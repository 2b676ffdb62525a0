from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.http.backlog import Backlog


class Client:
    def drop(self) -> None: ...


def test_what_is_shared_counts_once_until_nobody_has_it() -> None:
    registry = CollectorRegistry()
    held, drops = Gauge("held", "", registry=registry), Counter("drops", "", registry=registry)
    backlog = Backlog(100, held=held, drops=drops)
    chunk, first, second = bytes(60), Client(), Client()

    def size() -> float | None:
        return registry.get_sample_value("held")

    backlog.share(first, chunk)
    backlog.share(second, chunk)
    assert size() == 60
    backlog.share(second, bytes(61))
    assert size() == 121
    for client in (second, first):
        backlog.release(client)
        backlog.release(client)
    assert size() == 0
    assert backlog.has_room()
