# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A ticket with a chance of one in so many, between its holder and a hub
@license Apache-2.0
@notice The rules of `channels/apps/raffle.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

struct Ticket:
    holder: uint8
    odds: uint256
    stage: uint8
    commitment: bytes32
    named: bytes32

COMMITTED: constant(uint8) = 0
NAMED: constant(uint8) = 1
WON: constant(uint8) = 2
LOST: constant(uint8) = 3


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._read(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    seen: Ticket = self._read(state)
    assert by <= 1 and self._turn(seen) == by, "turn"
    assert len(move) == 32, "move"
    said: bytes32 = extract32(move, 0)
    if seen.stage == COMMITTED:
        assert said != empty(bytes32), "number"
        return concat(slice(state, 0, 5), convert(NAMED, bytes1), slice(state, 6, 32), said)
    assert keccak256(said) == seen.commitment, "commitment"
    drawn: uint256 = convert(keccak256(concat(said, seen.named)), uint256) % seen.odds
    ended: uint8 = WON if drawn == 0 else LOST
    return concat(slice(state, 0, 5), convert(ended, bytes1), slice(state, 6, 64))


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Ticket = self._read(state)
    assert self._turn(seen) == rules.FINAL, "not drawn"
    loser: uint8 = 1 - seen.holder if seen.stage == WON else seen.holder
    return rules.given(loser, stakes[loser])


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    loser: uint8 = self._turn(self._read(state))
    assert loser != rules.FINAL, "drawn"
    return rules.given(loser, stakes[loser])


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    return 0


@internal
@pure
def _turn(seen: Ticket) -> uint8:
    if seen.stage == COMMITTED:
        return 1
    return 0 if seen.stage == NAMED else rules.FINAL


@internal
@pure
def _read(state: Bytes[1024]) -> Ticket:
    assert len(state) == 70, "state"
    seen: Ticket = Ticket(
        holder=rules.seat(state, 0),
        odds=rules.number(state, 1, 4),
        stage=convert(rules.number(state, 5, 1), uint8),
        commitment=extract32(state, 6),
        named=extract32(state, 38),
    )
    assert seen.stage <= LOST and seen.odds >= 2, "state"
    assert (seen.stage == COMMITTED) == (seen.named == empty(bytes32)), "number"
    return seen
