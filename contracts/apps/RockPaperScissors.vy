# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Rock, paper, scissors: both choose at once
@license Apache-2.0
@notice The rules of `channels/apps/rps.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._hands(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    hands: uint256[2] = self._hands(state)
    assert by <= 1 and self._turn(hands) == by, "turn"
    size: uint256 = 1 if by == 1 else 33
    assert len(move) == size, "move"
    hand: uint256 = rules.number(move, size - 1, 1)
    assert 1 <= hand and hand <= 3, "hand"
    if by == 1:
        return concat(slice(state, 0, 32), convert(convert(hand, uint8), bytes1), b"\x00")
    assert keccak256(move) == extract32(state, 0), "commitment"
    return concat(slice(state, 0, 33), convert(convert(hand, uint8), bytes1))


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    hands: uint256[2] = self._hands(state)
    assert self._turn(hands) == rules.FINAL, "not over"
    if hands[0] == hands[1]:
        return [0, 0]
    loser: uint8 = 1 if (hands[1] + 3 - hands[0]) % 3 == 1 else 0
    return rules.given(loser, stakes[loser])


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    loser: uint8 = self._turn(self._hands(state))
    assert loser != rules.FINAL, "over"
    return rules.given(loser, stakes[loser])


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    return 0


@internal
@pure
def _turn(hands: uint256[2]) -> uint8:
    if hands[0] == 0:
        return 1
    return 0 if hands[1] == 0 else rules.FINAL


@internal
@pure
def _hands(state: Bytes[1024]) -> uint256[2]:
    """
    @notice Player 1's answer, and what player 0 has shown
    """
    assert len(state) == 34, "state"
    hands: uint256[2] = [rules.number(state, 32, 1), rules.number(state, 33, 1)]
    assert hands[0] <= 3 and hands[1] <= 3 and (hands[1] == 0 or hands[0] != 0), "state"
    return hands
