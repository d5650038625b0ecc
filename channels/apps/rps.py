"""Rock, paper, scissors: both choose at once, as player 0 has committed to its hand before player 1 shows its own.

Who loses loses its stake; nobody does by a draw. Player 0 commits in the first state, player 1 answers openly, player 0
shows its hand and salt. Who is silent has lost: player 0, that is the first to know, gains nothing by it.

State: commitment (32) ‖ player 1's hand (1) ‖ player 0's hand (1); 0 is not shown, 1 rock, 2 paper, 3 scissors.
Move: player 1's hand (1), then player 0's salt (32) ‖ hand (1), of which the commitment is keccak.
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.apps.fields import Words, given, number, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak

_HANDS = ("rock", "paper", "scissors")


def commitment_of(hand: str, salt: bytes) -> bytes:
    """Return what player 0 commits to with a salt (32 random bytes, never used again); raise InvalidInput."""
    if hand not in _HANDS or len(salt) != 32:
        raise InvalidInput(f"a hand is one of {', '.join(_HANDS)}, and its salt has 32 bytes")
    return keccak(salt + bytes([1 + _HANDS.index(hand)]))


class RockPaperScissors(App):
    """Two moves: an answer, and the hand that was committed to."""

    name = "rps"
    version = 1
    moves_most = 2
    gas = 30_000
    rules = "6ab907e6bfffe8b7daf82b7014b32c9129f3905cb32ee77dedfd430d67980b3f"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `commitment`, of player 0's hand (`commitment_of`)."""
        words = Words(parameters)
        state = words.data("commitment", 32) + bytes(2)
        words.end()
        return state

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """No hand is shown."""
        if _read(state)[1:] != (0, 0):
            raise InvalidInput("a game of rock, paper, scissors begins with no hand shown")

    def turn(self, state: bytes) -> int | None:
        """Return player 1 until it has answered, then player 0 until it has shown."""
        _, answer, shown = _read(state)
        return 1 if not answer else 0 if not shown else None

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Take the answer, or what was committed to."""
        commitment, answer, _ = _read(state)
        if self.turn(state) != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        if len(move) != (33 if answer else 1) or not 1 <= move[-1] <= 3:
            raise InvalidMove("a move is a hand, behind its salt if it was committed to")
        if not answer:
            return commitment + move + b"\0"
        if keccak(move) != commitment:
            raise InvalidMove("this is not the hand that was committed to")
        return state[:33] + move[32:]

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """The loser's stake, if the hands differ."""
        _, answer, shown = _read(state)
        if not shown:
            raise InvalidInput("not both hands are shown")
        loser = {0: None, 1: 1, 2: 0}[(shown - answer) % 3]
        return (0, 0) if loser is None else given(loser, stakes[loser])

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Who is silent has lost."""
        loser = self.turn(state)
        if loser is None:
            raise InvalidInput("the game is over")
        return given(loser, stakes[loser])

    def move(self, **words: Any) -> bytes:
        """`hand`: rock, paper, scissors; with `salt` for the one that was committed to."""
        said = Words(words)
        salt = said.data("salt", 32) if "salt" in said else b""
        hand = bytes([1 + said.choice("hand", *_HANDS)])
        said.end()
        return salt + hand

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the hands that are shown, in order of player."""
        commitment, answer, shown = _read(state)
        hands = [(None, *_HANDS)[each] for each in (shown, answer)]
        return {"commitment": commitment.hex(), "hands": hands, "turn": self.turn(state)}


def _read(state: bytes) -> tuple[bytes, int, int]:
    commitment, answer, shown = split(state, 32, 1, 1)
    if number(answer) > 3 or number(shown) > 3 or (number(shown) and not number(answer)):
        raise InvalidInput("this is no state of rock, paper, scissors")
    return commitment, number(answer), number(shown)
