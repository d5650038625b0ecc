"""Connect Four for stakes: player 0 begins; who has four in a line takes the other's stake; a full board pays nobody.

A state is 42 bytes, seven columns of six cells each from below (0 empty, 1 player 0's, 2 player 1's): nothing hangs
in the air, and player 0 has as many as player 1 or one more. A move is one byte, the column, 0 to 6. Whoever does not
move loses.
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.apps.fields import Words, given
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.errors import InvalidInput

_COLUMNS, _HEIGHT = 7, 6
_EMPTY = bytes(_COLUMNS * _HEIGHT)


def _lines() -> tuple[tuple[int, ...], ...]:
    found = []
    for column in range(_COLUMNS):
        for row in range(_HEIGHT):
            for across, up in ((1, 0), (0, 1), (1, 1), (1, -1)):
                if column + 3 * across < _COLUMNS and 0 <= row + 3 * up < _HEIGHT:
                    found.append(tuple((column + n * across) * _HEIGHT + row + n * up for n in range(4)))
    return tuple(found)


_LINES = _lines()


class ConnectFour(App):
    """A game of at most 42 moves."""

    name = "connectfour"
    version = 1
    moves_most = 42
    gas = 60_000
    rules = "a8a8843bc629529974d58db899d01477b4dbee584e837d0550ff2fef86728250"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Return the empty board; it takes no parameters."""
        Words(parameters).end()
        return _EMPTY

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """Only the empty board will do."""
        if state != _EMPTY:
            raise InvalidInput("a game of connectfour begins with an empty board")

    def turn(self, state: bytes) -> int | None:
        """Return whose turn it is, None if somebody has won or the board is full."""
        _look(state)
        return None if 0 not in state or _winner(state) is not None else (len(state) - state.count(0)) % 2

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Return the board with one more in that column."""
        if self.turn(state) != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        if len(move) != 1 or move[0] >= _COLUMNS or state[move[0] * _HEIGHT + _HEIGHT - 1]:
            raise InvalidMove("a move is a column that is not full, from 0 to 6")
        cell = state.index(0, move[0] * _HEIGHT)
        return state[:cell] + bytes([1 + by]) + state[cell + 1 :]

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """The loser's stake goes to the winner."""
        if self.turn(state) is not None:
            raise InvalidInput("the game is not over")
        winner = _winner(state)
        return (0, 0) if winner is None else given(1 - winner, stakes[1 - winner])

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Who does not move loses."""
        loser = self.turn(state)
        if loser is None:
            raise InvalidInput("the game is over")
        return given(loser, stakes[loser])

    def move(self, **words: Any) -> bytes:
        """`column`: 0 to 6, from the left."""
        said = Words(words)
        column = said.number("column", _COLUMNS - 1)
        said.end()
        return bytes([column])

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the rows as text, from above, and who moves or has won."""
        _look(state)
        rows = ["".join(".XO"[cell] for cell in state[row::_HEIGHT]) for row in reversed(range(_HEIGHT))]
        return {"rows": rows, "turn": self.turn(state), "winner": _winner(state)}


def _look(state: bytes) -> None:
    if len(state) != len(_EMPTY) or max(state) > 2 or state.count(1) - state.count(2) not in (0, 1):
        raise InvalidInput("this is no board of connectfour")
    for start in range(0, len(state), _HEIGHT):
        if 0 in state[start : start + _HEIGHT].rstrip(b"\0"):
            raise InvalidInput("on a board of connectfour nothing hangs in the air")


def _winner(state: bytes) -> int | None:
    winner = None
    for first, second, third, fourth in _LINES:
        if state[first] and state[first] == state[second] == state[third] == state[fourth]:
            if state[first] == 1:
                return 0
            winner = 1
    return winner
