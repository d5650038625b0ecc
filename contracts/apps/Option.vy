# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title A call or a put, covered in full and settled by a price that an oracle signed
@license Apache-2.0
@notice The rules of `channels/apps/option.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

struct Written:
    kind: uint8
    holder: uint8
    oracle: address
    feed: bytes32
    strike: uint256
    size: uint256
    unit: uint256
    after: uint256
    before: uint256
    due: uint256
    stage: uint8
    price: uint256

CALL: constant(uint8) = 0
OPEN: constant(uint8) = 0
EXERCISED: constant(uint8) = 1
LAPSED: constant(uint8) = 2


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    seen: Written = self._read(state)
    return seen.holder if seen.stage == OPEN else rules.FINAL


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    seen: Written = self._read(state)
    assert seen.stage == OPEN and by == seen.holder, "turn"
    if len(move) == 0:
        return concat(slice(state, 0, 126), convert(LAPSED, bytes1), slice(state, 127, 16))
    assert len(move) == 88, "move"
    time: uint256 = rules.number(move, 0, 8)
    price: uint256 = rules.number(move, 8, 16)
    assert seen.after <= time and time <= seen.before, "window"
    assert self._is_worth(seen, price), "worth"
    digest: bytes32 = rules.digest_price(seen.feed, convert(price, uint128), convert(time, uint64))
    assert rules.is_signed(digest, extract32(move, 24), extract32(move, 56), seen.oracle), "oracle"
    return concat(slice(state, 0, 126), convert(EXERCISED, bytes1), slice(move, 8, 16))


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Written = self._read(state)
    assert seen.stage != OPEN, "open"
    worth: uint256 = 0
    if seen.stage == EXERCISED:
        if seen.kind == CALL:
            worth = seen.size * (seen.price - seen.strike) // seen.price
        else:
            worth = seen.size * (seen.strike - seen.price) // seen.unit
    return self._settled(seen, convert(worth, uint128), stakes)


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    seen: Written = self._read(state)
    assert seen.stage == OPEN, "ended"
    return self._settled(seen, 0, stakes)


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    seen: Written = self._read(state)
    return convert(seen.due, uint64) if seen.stage == OPEN else 0


@internal
@pure
def _settled(seen: Written, worth: uint128, stakes: uint128[2]) -> uint128[2]:
    premium: uint128 = stakes[seen.holder]
    return [premium, worth] if seen.holder == 0 else [worth, premium]


@internal
@pure
def _is_worth(seen: Written, price: uint256) -> bool:
    return price > seen.strike if seen.kind == CALL else price < seen.strike


@internal
@pure
def _read(state: Bytes[1024]) -> Written:
    assert len(state) == 143, "state"
    seen: Written = Written(
        kind=rules.seat(state, 0),
        holder=rules.seat(state, 1),
        oracle=convert(convert(rules.number(state, 2, 20), uint160), address),
        feed=extract32(state, 22),
        strike=rules.number(state, 54, 16),
        size=rules.number(state, 70, 16),
        unit=rules.number(state, 86, 16),
        after=rules.number(state, 102, 8),
        before=rules.number(state, 110, 8),
        due=rules.number(state, 118, 8),
        stage=convert(rules.number(state, 126, 1), uint8),
        price=rules.number(state, 127, 16),
    )
    assert seen.stage <= LAPSED and seen.oracle != empty(address), "state"
    assert seen.strike != 0 and seen.size != 0 and seen.unit != 0, "terms"
    assert seen.after <= seen.before and seen.before <= seen.due, "window"
    cover: uint256 = seen.size if seen.kind == CALL else seen.size * seen.strike // seen.unit
    assert cover != 0 and cover <= convert(max_value(uint128), uint256), "cover"
    if seen.stage == EXERCISED:
        assert self._is_worth(seen, seen.price), "price"
    else:
        assert seen.price == 0, "price"
    return seen
