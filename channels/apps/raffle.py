"""A ticket with a chance of one in `odds`, between its holder and a hub: each ticket is drawn between these two alone.

The holder stakes the price and the hub the prize: who wins keeps its stake and gets the other's. It is even if the
prize is `price * (odds - 1)`. Player 0 has committed to a secret before; player 1 names a number; player 0 shows the
secret, and keccak(secret ‖ number) decides. Neither knows anything of the draw when it binds itself, and player 0,
which is the first to know it, loses by silence what it would lose by the draw. A secret is for one instance: who
commits to one that was shown before lets the other choose the draw.

State: holder (1) ‖ odds (4) ‖ stage (1: 0 committed, 1 named, 2 won, 3 lost) ‖ commitment (32) ‖ number (32: 0 until
named). Move: player 1's number (32), then player 0's secret (32), of which the commitment is keccak.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tallystick.channels.apps.fields import Words, given, number, packed, seat, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak

ODDS_MAX = 2**32 - 1
_COMMITTED, _NAMED, _WON, _LOST = 0, 1, 2, 3
_STAGES = ("committed", "named", "won", "lost")


class _RaffleState(NamedTuple):
    holder: int
    odds: int
    stage: int
    commitment: bytes
    number: bytes

    @property
    def turn(self) -> int | None:
        return {_COMMITTED: 1, _NAMED: 0}.get(self.stage)


class Raffle(App):
    """Two moves: a number, and a secret."""

    name = "raffle"
    version = 1
    moves_most = 2
    gas = 30_000
    rules = "048213386d2f92b57fb0f9c438d8112242356f8264f716147c1c14e9f21f4309"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `holder` (0, 1) of the ticket, `odds`, and `commitment`, keccak of player 0's secret (`keccak`)."""
        words = Words(parameters)
        holder, odds = words.number("holder", 1), words.number("odds", ODDS_MAX, 2)
        state = _write(_RaffleState(holder, odds, _COMMITTED, words.data("commitment", 32), bytes(32)))
        words.end()
        self.check(state, stakes, 0)
        return state

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """Both have a stake, and nothing is drawn."""
        if _read(state).stage != _COMMITTED or not all(stakes):
            raise InvalidInput("a raffle begins before it is drawn, with a price and a prize")

    def turn(self, state: bytes) -> int | None:
        """Return player 1 until it has named a number, then player 0 until it has shown its secret."""
        return _read(state).turn

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Take the number, or the secret."""
        seen = _read(state)
        if seen.turn != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        if len(move) != 32 or (seen.stage == _COMMITTED and move == bytes(32)):
            raise InvalidMove("a move is 32 bytes, and a number is not 0")
        if seen.stage == _COMMITTED:
            return _write(seen._replace(stage=_NAMED, number=move))
        if keccak(move) != seen.commitment:
            raise InvalidMove("this is not the secret that was committed to")
        won = number(keccak(move + seen.number)) % seen.odds == 0
        return _write(seen._replace(stage=_WON if won else _LOST))

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """The hub's prize to the holder, or the holder's price to the hub."""
        seen = _read(state)
        if seen.turn is not None:
            raise InvalidInput("the ticket is not drawn")
        loser = 1 - seen.holder if seen.stage == _WON else seen.holder
        return given(loser, stakes[loser])

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Who is silent has lost."""
        loser = _read(state).turn
        if loser is None:
            raise InvalidInput("the ticket is drawn")
        return given(loser, stakes[loser])

    def move(self, **words: Any) -> bytes:
        """`number` (32 bytes, random) of player 1, or `secret` of player 0."""
        said = Words(words)
        move = said.data("number" if "number" in said else "secret", 32)
        said.end()
        return move

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the odds, and what was drawn."""
        seen = _read(state)
        hashes = {"commitment": seen.commitment.hex(), "number": seen.number.hex()}
        return seen._asdict() | hashes | {"stage": _STAGES[seen.stage], "turn": seen.turn}


def _read(state: bytes) -> _RaffleState:
    holder, odds, stage, commitment, named = split(state, 1, 4, 1, 32, 32)
    seen = _RaffleState(seat(holder), number(odds), number(stage), commitment, named)
    if seen.stage > _LOST or seen.odds < 2 or (seen.stage == _COMMITTED) != (named == bytes(32)):
        raise InvalidInput("this is no state of a raffle")
    return seen


def _write(state: _RaffleState) -> bytes:
    return packed((state.holder, 1), (state.odds, 4), (state.stage, 1)) + state.commitment + state.number
