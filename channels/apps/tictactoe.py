"""Noughts and crosses for stakes: player 0 begins; who has three in a row takes the other's stake; a draw pays nobody.

A state is nine bytes, one per cell (0 empty, 1 player 0's, 2 player 1's), of which player 0 has as many as player 1 or
one more; whose turn it is follows from that. A move is one byte, the cell: 0 to 8, from the top left. Whoever does not
move loses.
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.errors import InvalidInput

_ROWS = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_EMPTY = bytes(9)


class TicTacToe(App):
    """A game of at most nine moves."""

    name = "tictactoe"
    version = 1
    moves_most = 9
    gas = 30_000
    rules = "c4049167e34741a3475a987c68505fc162e001f50be1dd0450c2b745c6e37c26"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Return the empty board; it takes no parameters."""
        if parameters:
            raise InvalidInput(f"tictactoe takes no parameters, not {', '.join(sorted(parameters))}")
        return _EMPTY

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """Only the empty board will do."""
        if state != _EMPTY:
            raise InvalidInput("a game of tictactoe begins with an empty board")

    def turn(self, state: bytes) -> int | None:
        """Return whose turn it is, None if somebody has won or the board is full."""
        _look(state)
        return None if 0 not in state or _winner(state) is not None else (9 - state.count(0)) % 2

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Return the board with the cell taken."""
        if self.turn(state) != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        if len(move) != 1 or move[0] > 8 or state[move[0]]:
            raise InvalidMove("a move is an empty cell, from 0 to 8")
        return state[: move[0]] + bytes([1 + by]) + state[move[0] + 1 :]

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """The loser's stake goes to the winner."""
        if self.turn(state) is not None:
            raise InvalidInput("the game is not over")
        return _lost(None if (winner := _winner(state)) is None else 1 - winner, stakes)

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Who does not move loses."""
        if (loser := self.turn(state)) is None:
            raise InvalidInput("the game is over")
        return _lost(loser, stakes)

    def move(self, **words: Any) -> bytes:
        """`cell`: 0 to 8."""
        cell = words.get("cell")
        if set(words) != {"cell"} or type(cell) is not int or not 0 <= cell <= 8:
            raise InvalidInput("say cell=0 to cell=8, from the top left")
        return bytes([cell])

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the rows as text, and who moves or has won."""
        _look(state)
        drawn = "".join(".XO"[cell] for cell in state)
        return {"rows": [drawn[:3], drawn[3:6], drawn[6:]], "turn": self.turn(state), "winner": _winner(state)}


def _look(state: bytes) -> None:
    if len(state) != 9 or max(state) > 2 or state.count(1) - state.count(2) not in (0, 1):
        raise InvalidInput("this is no board of tictactoe")


def _winner(state: bytes) -> int | None:
    for first, second, third in _ROWS:
        if state[first] and state[first] == state[second] == state[third]:
            return state[first] - 1
    return None


def _lost(loser: int | None, stakes: Stakes) -> Paid:
    return (stakes[0] if loser == 0 else 0, stakes[1] if loser == 1 else 0)
