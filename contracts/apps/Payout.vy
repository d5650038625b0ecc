# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A pay-out that members vote on
@license Apache-2.0
@notice The rules of `channels/apps/payout.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

struct Asked:
    payee: uint8
    needed: uint256
    stage: uint8
    most: uint128
    paid: uint128
    due: uint64
    count: uint256

MEMBERS: constant(uint256) = 43
MEMBERS_MAX: constant(uint256) = 16
NEEDED_MAX: constant(uint256) = 7


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    seen: Asked = self._read(state)
    return seen.payee if seen.stage == 0 else rules.FINAL


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    seen: Asked = self._read(state)
    assert seen.stage == 0 and by == seen.payee, "turn"
    assert len(move) == 18 + 64 * seen.needed, "move"
    paid: uint128 = convert(rules.number(move, 0, 16), uint128)
    who: uint256 = rules.number(move, 16, 2)
    assert 1 <= paid and paid <= seen.most and who >> seen.count == 0, "move"
    digest: bytes32 = rules.digest_vote(instance, paid)
    votes: uint256 = 0
    for place: uint256 in range(seen.count, bound=MEMBERS_MAX):
        if (who >> place) & 1 == 1:
            assert votes < seen.needed, "votes"
            at: uint256 = 18 + 64 * votes
            assert rules.is_signed(digest, extract32(move, at), extract32(move, at + 32), self._member(state, place)), "vote"
            votes += 1
    assert votes == seen.needed, "votes"
    rest: Bytes[989] = convert(slice(state, 35, len(state) - 35), Bytes[989])
    return concat(slice(state, 0, 2), x"01", slice(state, 3, 16), convert(paid, bytes16), rest)


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Asked = self._read(state)
    assert seen.stage == 1, "not paid"
    return rules.given(1 - seen.payee, seen.paid)


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    assert self._read(state).stage == 0, "paid"
    return [0, 0]


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    seen: Asked = self._read(state)
    return seen.due if seen.stage == 0 else 0


@internal
@pure
def _member(state: Bytes[1024], place: uint256) -> address:
    return convert(convert(rules.number(state, MEMBERS + 20 * place, 20), uint160), address)


@internal
@pure
def _read(state: Bytes[1024]) -> Asked:
    size: uint256 = len(state)
    assert MEMBERS < size and size <= MEMBERS + 20 * MEMBERS_MAX and (size - MEMBERS) % 20 == 0, "state"
    seen: Asked = Asked(
        payee=rules.seat(state, 0),
        needed=rules.number(state, 1, 1),
        stage=convert(rules.number(state, 2, 1), uint8),
        most=convert(rules.number(state, 3, 16), uint128),
        paid=convert(rules.number(state, 19, 16), uint128),
        due=convert(rules.number(state, 35, 8), uint64),
        count=(size - MEMBERS) // 20,
    )
    assert 1 <= seen.needed and seen.needed <= min(seen.count, NEEDED_MAX), "needed"
    assert seen.stage <= 1 and seen.most != 0 and seen.paid <= seen.most, "state"
    assert (seen.stage == 1) == (seen.paid != 0), "paid"
    last: address = empty(address)
    for place: uint256 in range(seen.count, bound=MEMBERS_MAX):
        member: address = self._member(state, place)
        assert convert(last, uint160) < convert(member, uint160), "members rise"
        last = member
    return seen
