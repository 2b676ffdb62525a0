"""What is asked for on the command line of ``parked``, and what is said of what makes no sense."""

import pytest

from services.projector.commands import run_parked
from services.projector.parked_command import NoWishError, Wish, parse_wish
from shared.contracts.ids import RoomKey


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ("list", Wish("list", None, None, False)),
        ("list ws/lobby", Wish("list", None, RoomKey("ws", "lobby"), False)),
        ("show runs@2 ws/lobby --payload", Wish("show", "runs@2", RoomKey("ws", "lobby"), True)),
        ("retry room_feed", Wish("retry", "room_feed", None, False)),
        ("skip runs ws/lobby", Wish("skip", "runs", RoomKey("ws", "lobby"), False)),
    ],
)
def test_what_is_asked_for(words: str, wish: Wish) -> None:
    assert parse_wish(words.split()) == wish


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "what is to be done is missing"),
        ("drop runs", "'drop' is none of list, show, retry, skip"),
        ("show runs lobby", "'lobby' has no workspace: a room is named as workspace/room"),
        ("show runs ws/", "'ws/' is no room: one is named as workspace/room"),
        ("show lobby", "there is no projection 'lobby': there are runs, room_feed"),
        ("list runs ws/lobby more", "'more' is one too many: it takes a projection and a room"),
        ("list --all", "there is no option '--all'"),
        ("list --payload", "--payload is for show, not for list"),
        ("retry ws/lobby", "retry needs a projection: runs or room_feed"),
        ("skip runs", "skip needs a room, as workspace/room"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoWishError) as caught:
        parse_wish(words.split())
    assert str(caught.value) == line
    assert run_parked(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"{line}\nusage: python -m services.projector parked")
