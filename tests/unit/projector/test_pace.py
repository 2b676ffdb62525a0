"""How much of its time a task gives to what is tried again."""

from services.projector.pace import Pace


def test_work_takes_its_share_of_the_time_however_long_a_piece_takes() -> None:
    pace = Pace(0.25)
    now, worked = 1000.0, 0.0
    for number in range(2000):
        if pace.is_due(now):
            took = 0.01 if number % 2 else 0.5
            pace.spent(now, now + took)
            now, worked = now + took, worked + took
        now += 0.01
    assert 0.2 < worked / (now - 1000.0) <= 0.26


def test_what_waited_for_an_outage_is_not_counted_against_what_comes_after() -> None:
    pace = Pace(0.25)
    pace.spent(1000.0, 1600.0)
    assert not pace.is_due(1601.0)
    assert pace.is_due(1605.0)
