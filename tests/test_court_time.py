"""How long a dispute can last against a player that answers within a period each time: it fits in the court's time.

A game of so many moves is played out in court in every way, in numbers alone: the other player brings each state that
it may hold both signatures of, moves, moves otherwise than before, goes on off chain, and always as late as it can; and
the honest one does what `settlement.enforcement.apps` derives, as late as it may. Each call gives whose turn it is one
period from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest

from simulation.court_bench import GAME, TERMS
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.app_court import COURT_MOST, check_court, court_seconds


class Board(NamedTuple):
    """A dispute, in numbers of states."""

    agreed: int
    """The newest number in court that both signed."""
    number: int
    """The one that stands."""
    same: int
    """Up to this number what is in court is what was played off chain."""
    signed: int
    """The newest number that the honest player signed."""
    acknowledged: bool
    """Whether it holds both signatures under that."""


def longest(moves: int, first_is_honest: bool) -> int:
    """Return after how many calls at most nothing can follow any more."""

    def is_honests(number: int) -> bool:
        return number < moves and (number % 2 == 0) == first_is_honest

    def is_others(number: int) -> bool:
        return number < moves and not is_honests(number)

    def off_chain(board: Board) -> Iterator[Board]:
        if board.signed < moves:
            yield board._replace(signed=board.signed + 1, acknowledged=is_others(board.signed))
        if not board.acknowledged:
            yield board._replace(acknowledged=True)

    def others(board: Board) -> Iterator[Board]:
        for number in range(board.agreed + 1, board.signed + 1):
            yield board._replace(agreed=number, number=number, same=number)
        if is_others(board.number):
            moved = board._replace(number=board.number + 1)
            yield moved
            if board.same == board.number == board.signed:
                yield moved._replace(same=moved.number, signed=moved.number, acknowledged=True)
            elif board.same == board.number < board.signed:
                yield moved._replace(same=moved.number)

    def honests(board: Board) -> Iterator[Board]:
        held = board.signed if board.acknowledged else board.signed - 1
        if held > board.same:
            yield board._replace(agreed=held, number=held, same=held)
        elif is_honests(board.number) and board.same == board.number >= board.signed - 1:
            number = board.number + 1
            known = board.acknowledged and number <= board.signed
            yield board._replace(number=number, same=number, signed=number, acknowledged=known)

    @cache
    def calls(board: Board) -> int:
        following = [1 + calls(after) for after in (*others(board), *honests(board))]
        return max([1, *following, *(calls(after) for after in off_chain(board))])

    return max(calls(Board(0, 0, 0, signed, True)) for signed in range(moves + 1))


@pytest.mark.parametrize("first_is_honest", [True, False])
def test_a_dispute_between_players_ends_before_the_court_does(first_is_honest: bool) -> None:
    found = [longest(moves, first_is_honest) for moves in range(1, 12)]
    for moves, calls in enumerate(found, 1):
        assert calls <= court_seconds(moves, 1)
    more = court_seconds(2, 1) - court_seconds(1, 1)
    assert all(after - before <= more for before, after in pairwise(found)), "and so for more moves"
    assert found[0] == 3, "a move, or its expiry; the state that stands once more; and what follows from it"


def test_terms_of_which_a_dispute_would_not_fit_are_not_agreed_on() -> None:
    most = COURT_MOST // court_seconds(GAME.moves_most, 1)
    check_court(msgspec.structs.replace(TERMS, period=most), GAME.moves_most)
    with pytest.raises(InvalidInput, match=f"take at most {most}$"):
        check_court(msgspec.structs.replace(TERMS, period=most + 1), GAME.moves_most)


def test_every_app_that_ships_can_be_played_by_periods_of_three_hours() -> None:
    for app in APPS:
        check_court(msgspec.structs.replace(TERMS, period=3 * 3_600), app.moves_most)
