"""A price that is held until the buyer lets it go, or an arbiter whom both named says how much of it the seller gets.

The buyer stakes the price, the seller nothing. The buyer releases it, or disputes it by `deadline`: silence is consent.
In a dispute the seller may bring the arbiter's decision until `decide`, give all back, or pass; a seller that is silent
gives all back, as else it could hold back a decision against it. Once it passed the buyer may bring the decision; if it
has none the seller gets `default`, which both agreed on for an arbiter that is silent. So each brings a decision that
is better for it than the default, and who signed nothing in time has decided nothing.

State: buyer (1) ‖ arbiter (20) ‖ price, default (16 each) ‖ deadline, decide (8 each) ‖ stage (1: 0 held, 1 disputed,
2 passed, 3 ended) ‖ paid (16: to the seller; 0 unless ended).
Move: one byte (0 release, 1 dispute, 2 pass, 3 refund, 4 accept the default), or 5 ‖ paid (16) ‖ signature (64).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tallystick.channels.apps.fields import Words, given, number, packed, seat, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.apps.statements import digest_decision
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import is_signed
from tallystick.channels.protocol.objects import Address

_HELD, _DISPUTED, _PASSED, _ENDED = 0, 1, 2, 3
_STAGES = ("held", "disputed", "passed", "ended")
_MOVES = ("release", "dispute", "pass", "refund", "accept", "decision")
_RELEASE, _DISPUTE, _PASS, _REFUND, _ACCEPT, _DECISION = range(6)
_ALLOWED = {
    _HELD: (_RELEASE, _DISPUTE, _DECISION),
    _DISPUTED: (_PASS, _REFUND, _DECISION),
    _PASSED: (_RELEASE, _ACCEPT, _DECISION),
    _ENDED: (),
}


class _EscrowState(NamedTuple):
    buyer: int
    arbiter: Address
    price: int
    default: int
    deadline: int
    decide: int
    stage: int
    paid: int


class Escrow(App):
    """At most three moves: disputed, passed, ended."""

    name = "escrow"
    version = 1
    moves_most = 3
    gas = 120_000
    rules = "f752288343c1995c7aab2cea76e462ea5516c321cbcf8215e385fa8cd1f2c8ec"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `buyer` (0, 1), `arbiter`, `default` (to the seller if the arbiter is silent), `deadline`, `decide`."""
        words = Words(parameters)
        buyer = words.number("buyer", 1)
        state = _EscrowState(
            buyer=buyer,
            arbiter=Address(words.data("arbiter", 20)),
            price=stakes[buyer],
            default=words.number("default", AMOUNT_MAX),
            deadline=words.number("deadline", UINT64_MAX),
            decide=words.number("decide", UINT64_MAX),
            stage=_HELD,
            paid=0,
        )
        words.end()
        self.check(_write(state), stakes, state.decide)
        return _write(state)

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """The buyer alone has a stake, the price."""
        seen = _read(state)
        if seen.stage != _HELD or seen.decide > expiry:
            raise InvalidInput("an escrow begins held, and is decided before its terms expire")
        if stakes[seen.buyer] != seen.price or stakes[1 - seen.buyer]:
            raise InvalidInput("the buyer stakes the price, and the seller nothing")

    def turn(self, state: bytes) -> int | None:
        """Return the seller while it is disputed, else the buyer until it has ended."""
        return _turn(_read(state))

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Return what follows from one of the moves of this stage, or from what the arbiter signed."""
        seen = _read(state)
        if _turn(seen) != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        if not move or move[0] not in _ALLOWED[seen.stage] or len(move) != (81 if move[0] == _DECISION else 1):
            raise InvalidMove(f"this cannot be done while the price is {_STAGES[seen.stage]}")
        if move[0] in (_DISPUTE, _PASS):
            return _write(seen._replace(stage=seen.stage + 1))
        paid = {_RELEASE: seen.price, _REFUND: 0, _ACCEPT: seen.default}.get(move[0], number(move[1:17]))
        if move[0] == _DECISION:
            if paid > seen.price:
                raise InvalidMove("the arbiter cannot give more than the price")
            if not is_signed(digest_decision(instance, paid), move[17:], seen.arbiter):
                raise InvalidMove("this is no decision of the arbiter about this escrow")
        return _write(seen._replace(stage=_ENDED, paid=paid))

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """What was released or decided."""
        seen = _read(state)
        if seen.stage != _ENDED:
            raise InvalidInput("the escrow has not ended")
        return given(seen.buyer, seen.paid)

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """A silent buyer releases the price, a silent seller gives it back; after a pass it is split by default."""
        seen = _read(state)
        if seen.stage == _ENDED:
            raise InvalidInput("the escrow has ended")
        return given(seen.buyer, {_HELD: seen.price, _DISPUTED: 0, _PASSED: seen.default}[seen.stage])

    def due(self, state: bytes) -> int:
        """Return until when the buyer may dispute; then, until when the arbiter may decide."""
        seen = _read(state)
        return {_HELD: seen.deadline, _ENDED: 0}.get(seen.stage, seen.decide)

    def move(self, **words: Any) -> bytes:
        """`do`: release, dispute, pass, refund, accept; or decision, with `paid` and `signature`."""
        said = Words(words)
        does = said.choice("do", *_MOVES)
        move = packed((does, 1))
        if does == _DECISION:
            move += packed((said.number("paid", AMOUNT_MAX), 16)) + said.data("signature", 64)
        said.end()
        return move

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the terms, and what came of them."""
        seen = _read(state)
        return seen._asdict() | {
            "arbiter": seen.arbiter.hex(),
            "stage": _STAGES[seen.stage],
            "turn": _turn(seen),
            "moves": [_MOVES[each] for each in _ALLOWED[seen.stage]],
        }


def _turn(state: _EscrowState) -> int | None:
    if state.stage == _ENDED:
        return None
    return 1 - state.buyer if state.stage == _DISPUTED else state.buyer


def _read(state: bytes) -> _EscrowState:
    buyer, arbiter, *rest = split(state, 1, 20, 16, 16, 8, 8, 1, 16)
    seen = _EscrowState(seat(buyer), Address(arbiter), *(number(field) for field in rest))
    if seen.stage > _ENDED or arbiter == bytes(20) or not seen.price:
        raise InvalidInput("this is no state of an escrow")
    if max(seen.default, seen.paid) > seen.price or seen.deadline > seen.decide:
        raise InvalidInput("an escrow pays at most the price, and is decided after the time for disputing it")
    if seen.paid and seen.stage != _ENDED:
        raise InvalidInput("an escrow that has not ended has paid nothing")
    return seen


def _write(state: _EscrowState) -> bytes:
    amounts = packed((state.price, 16), (state.default, 16), (state.deadline, 8), (state.decide, 8))
    return packed((state.buyer, 1)) + state.arbiter + amounts + packed((state.stage, 1), (state.paid, 16))
