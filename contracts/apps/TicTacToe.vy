# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Noughts and crosses for stakes
@license Apache-2.0
@notice The rules of `channels/apps/tictactoe.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

LINES: constant(uint256[3][8]) = [
    [0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]
]


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._cells(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    cells: uint8[9] = self._cells(state)
    assert by <= 1 and self._turn(cells) == by, "turn"
    assert len(move) == 1, "move"
    cell: uint256 = rules.number(move, 0, 1)
    assert cell <= 8 and cells[cell] == 0, "cell"
    board: uint256 = rules.number(state, 0, 9) + (convert(by, uint256) + 1 << (8 * (8 - cell)))
    return slice(convert(board, bytes32), 23, 9)


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    cells: uint8[9] = self._cells(state)
    assert self._turn(cells) == rules.FINAL, "not over"
    winner: uint8 = self._winner(cells)
    if winner == rules.FINAL:
        return [0, 0]
    return rules.given(1 - winner, stakes[1 - winner])


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    loser: uint8 = self._turn(self._cells(state))
    assert loser != rules.FINAL, "over"
    return rules.given(loser, stakes[loser])


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    return 0


@internal
@pure
def _cells(state: Bytes[1024]) -> uint8[9]:
    assert len(state) == 9, "board"
    cells: uint8[9] = empty(uint8[9])
    counts: uint256[3] = [0, 0, 0]
    for at: uint256 in range(9):
        cell: uint256 = rules.number(state, at, 1)
        assert cell <= 2, "board"
        counts[cell] += 1
        cells[at] = convert(cell, uint8)
    assert counts[1] == counts[2] or counts[1] == counts[2] + 1, "board"
    return cells


@internal
@pure
def _turn(cells: uint8[9]) -> uint8:
    taken: uint256 = 0
    for at: uint256 in range(9):
        if cells[at] != 0:
            taken += 1
    if taken == 9 or self._winner(cells) != rules.FINAL:
        return rules.FINAL
    return convert(taken % 2, uint8)


@internal
@pure
def _winner(cells: uint8[9]) -> uint8:
    for line: uint256[3] in LINES:
        first: uint8 = cells[line[0]]
        if first != 0 and first == cells[line[1]] and first == cells[line[2]]:
            return first - 1
    return rules.FINAL
