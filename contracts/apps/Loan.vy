# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A loan against collateral, paid back in instalments
@license Apache-2.0
@notice The rules of `channels/apps/loan.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

struct Lent:
    borrower: uint8
    drawn: uint8
    repaid: uint256
    worth: uint256
    lend: uint256
    first: uint256
    every: uint256
    count: uint256

PRINCIPAL: constant(uint256) = 43
INSTALMENTS_MAX: constant(uint256) = 16


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._read(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    seen: Lent = self._read(state)
    assert by <= 1 and self._turn(seen) == by, "turn"
    assert len(move) == 32, "move"
    wanted: uint256 = PRINCIPAL if seen.drawn == 0 else PRINCIPAL + 32 * (seen.repaid + 1)
    assert sha256(extract32(move, 0)) == extract32(state, wanted), "receipt"
    repaid: uint256 = 0 if seen.drawn == 0 else seen.repaid + 1
    rest: Bytes[1021] = convert(slice(state, 3, len(state) - 3), Bytes[1021])
    return concat(slice(state, 0, 1), x"01", convert(convert(repaid, uint8), bytes1), rest)


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    assert self._turn(self._read(state)) == rules.FINAL, "not paid back"
    return [0, 0]


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Lent = self._read(state)
    assert self._turn(seen) != rules.FINAL, "paid back"
    if seen.drawn == 0:
        return [0, 0]
    return rules.given(seen.borrower, convert(seen.worth * (seen.count - seen.repaid), uint128))


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    seen: Lent = self._read(state)
    if self._turn(seen) == rules.FINAL:
        return 0
    return convert(seen.lend if seen.drawn == 0 else seen.first + seen.repaid * seen.every, uint64)


@internal
@pure
def _turn(seen: Lent) -> uint8:
    if seen.drawn == 0:
        return 1 - seen.borrower
    return seen.borrower if seen.repaid < seen.count else rules.FINAL


@internal
@pure
def _read(state: Bytes[1024]) -> Lent:
    size: uint256 = len(state)
    assert PRINCIPAL + 64 <= size and size <= PRINCIPAL + 32 + 32 * INSTALMENTS_MAX, "state"
    assert (size - PRINCIPAL) % 32 == 0, "state"
    seen: Lent = Lent(
        borrower=rules.seat(state, 0),
        drawn=convert(rules.number(state, 1, 1), uint8),
        repaid=rules.number(state, 2, 1),
        worth=rules.number(state, 3, 16),
        lend=rules.number(state, 19, 8),
        first=rules.number(state, 27, 8),
        every=rules.number(state, 35, 8),
        count=(size - PRINCIPAL) // 32 - 1,
    )
    assert seen.worth != 0 and seen.lend <= seen.first, "terms"
    assert seen.worth * seen.count <= convert(max_value(uint128), uint256), "collateral"
    last: uint256 = max(seen.lend, seen.first + (seen.count - 1) * seen.every)
    assert last <= convert(max_value(uint64), uint256), "due"
    assert seen.drawn <= 1 and seen.repaid <= (0 if seen.drawn == 0 else seen.count), "state"
    for at: uint256 in range(seen.count + 1, bound=INSTALMENTS_MAX + 1):
        one: bytes32 = extract32(state, PRINCIPAL + 32 * at)
        for before: uint256 in range(at, bound=INSTALMENTS_MAX + 1):
            assert one != extract32(state, PRINCIPAL + 32 * before), "receipt counts once"
    return seen
