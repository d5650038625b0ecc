# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A price that is held until it is released, or an arbiter decides
@license Apache-2.0
@notice The rules of `channels/apps/escrow.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

struct Held:
    buyer: uint8
    arbiter: address
    price: uint128
    otherwise: uint128
    deadline: uint64
    decide: uint64
    stage: uint8
    paid: uint128

HELD: constant(uint8) = 0
DISPUTED: constant(uint8) = 1
PASSED: constant(uint8) = 2
ENDED: constant(uint8) = 3

RELEASE: constant(uint256) = 0
DISPUTE: constant(uint256) = 1
PASS_ON: constant(uint256) = 2
REFUND: constant(uint256) = 3
ACCEPT: constant(uint256) = 4
DECISION: constant(uint256) = 5


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._read(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    seen: Held = self._read(state)
    assert by <= 1 and self._turn(seen) == by, "turn"
    does: uint256 = rules.number(move, 0, 1)
    assert len(move) == (81 if does == DECISION else 1), "move"
    assert does == DECISION or self._is_allowed(seen.stage, does), "stage"
    if does == DISPUTE or does == PASS_ON:
        seen.stage += 1
        return self._written(seen)
    seen.stage = ENDED
    if does == RELEASE:
        seen.paid = seen.price
    elif does == ACCEPT:
        seen.paid = seen.otherwise
    elif does == DECISION:
        seen.paid = convert(rules.number(move, 1, 16), uint128)
        assert seen.paid <= seen.price, "price"
        digest: bytes32 = rules.digest_decision(instance, seen.paid)
        assert rules.is_signed(digest, extract32(move, 17), extract32(move, 49), seen.arbiter), "arbiter"
    return self._written(seen)


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Held = self._read(state)
    assert seen.stage == ENDED, "not ended"
    return rules.given(seen.buyer, seen.paid)


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Held = self._read(state)
    assert seen.stage != ENDED, "ended"
    if seen.stage == HELD:
        return rules.given(seen.buyer, seen.price)
    if seen.stage == DISPUTED:
        return [0, 0]
    return rules.given(seen.buyer, seen.otherwise)


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    seen: Held = self._read(state)
    if seen.stage == ENDED:
        return 0
    return seen.deadline if seen.stage == HELD else seen.decide


@internal
@pure
def _turn(seen: Held) -> uint8:
    if seen.stage == ENDED:
        return rules.FINAL
    return 1 - seen.buyer if seen.stage == DISPUTED else seen.buyer


@internal
@pure
def _is_allowed(stage: uint8, does: uint256) -> bool:
    if stage == HELD:
        return does == RELEASE or does == DISPUTE
    if stage == DISPUTED:
        return does == PASS_ON or does == REFUND
    return does == RELEASE or does == ACCEPT


@internal
@pure
def _read(state: Bytes[1024]) -> Held:
    assert len(state) == 86, "state"
    seen: Held = Held(
        buyer=rules.seat(state, 0),
        arbiter=convert(convert(rules.number(state, 1, 20), uint160), address),
        price=convert(rules.number(state, 21, 16), uint128),
        otherwise=convert(rules.number(state, 37, 16), uint128),
        deadline=convert(rules.number(state, 53, 8), uint64),
        decide=convert(rules.number(state, 61, 8), uint64),
        stage=convert(rules.number(state, 69, 1), uint8),
        paid=convert(rules.number(state, 70, 16), uint128),
    )
    assert seen.stage <= ENDED and seen.arbiter != empty(address) and seen.price != 0, "state"
    assert max(seen.otherwise, seen.paid) <= seen.price and seen.deadline <= seen.decide, "terms"
    assert seen.paid == 0 or seen.stage == ENDED, "paid"
    return seen


@internal
@pure
def _written(seen: Held) -> Bytes[86]:
    return concat(
        convert(seen.buyer, bytes1),
        convert(seen.arbiter, bytes20),
        convert(seen.price, bytes16),
        convert(seen.otherwise, bytes16),
        convert(seen.deadline, bytes8),
        convert(seen.decide, bytes8),
        convert(seen.stage, bytes1),
        convert(seen.paid, bytes16),
    )
