"""How many partitions each worker should hold. Pure.

Invariant: workers that agree on who is alive agree on the shares, which add up to all partitions and differ by one at
the most, per projection and over all of them.
"""

from collections.abc import Collection, Iterable


def fair_share(partitions: int, workers: Collection[str], me: str, turn: int) -> int:
    """The partitions worker ``me`` should hold; ``me`` counts as one of ``workers``.

    ``turn`` is the number of the projection among those the workers run: what does not divide evenly goes to other
    workers with each.
    """
    ranked = sorted({*workers, me})
    base, surplus = divmod(partitions, len(ranked))
    rank = (ranked.index(me) - turn * surplus) % len(ranked)
    return base + (1 if rank < surplus else 0)


def turns_of(announced: Iterable[Iterable[str]]) -> dict[str, int]:
    """The turn of each projection, from what every living worker says it runs.

    Never from a worker's own list: in whatever order it took its projections up, a turn that the others do not count
    the same makes shares that do not add up, and a partition that nobody takes.
    """
    return {name: turn for turn, name in enumerate(sorted({name for names in announced for name in names}))}
