# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Connect Four for stakes
@license Apache-2.0
@notice The rules of `channels/apps/connectfour.py`, where the encodings are described. Not audited.
"""

from . import AppRules
from .common import rules

implements: AppRules

# What both have on the board: bit 7 * column + row, so that the seventh row of each column is always empty.
struct Board:
    stones: uint256[2]
    taken: uint256

COLUMNS: constant(uint256) = 7
HEIGHT: constant(uint256) = 6
CELLS: constant(uint256) = 42


@external
@pure
def turn(state: Bytes[1024]) -> uint8:
    return self._turn(self._read(state))


@external
@pure
def valid(state: Bytes[1024], move: Bytes[512], by: uint8, instance: bytes32) -> Bytes[1024]:
    board: Board = self._read(state)
    assert by <= 1 and self._turn(board) == by, "turn"
    assert len(move) == 1, "move"
    column: uint256 = rules.number(move, 0, 1)
    assert column < COLUMNS, "column"
    cell: uint256 = column * HEIGHT
    for row: uint256 in range(HEIGHT):
        if rules.number(state, cell, 1) == 0:
            break
        cell += 1
    assert cell < (column + 1) * HEIGHT, "full"
    # The board is ten bytes and then a word: numbers of no more than 32 bytes.
    head: uint256 = rules.number(state, 0, 10)
    rest: uint256 = rules.number(state, 10, 32)
    stone: uint256 = convert(by, uint256) + 1
    if cell < 10:
        head += stone << (8 * (9 - cell))
    else:
        rest += stone << (8 * (41 - cell))
    return concat(convert(convert(head, uint80), bytes10), convert(rest, bytes32))


@external
@pure
def outcome(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    board: Board = self._read(state)
    assert self._turn(board) == rules.FINAL, "not over"
    winner: uint8 = self._winner(board)
    if winner == rules.FINAL:
        return [0, 0]
    return rules.given(1 - winner, stakes[1 - winner])


@external
@pure
def forfeit(state: Bytes[1024], stakes: uint128[2]) -> uint128[2]:
    loser: uint8 = self._turn(self._read(state))
    assert loser != rules.FINAL, "over"
    return rules.given(loser, stakes[loser])


@external
@pure
def due(state: Bytes[1024]) -> uint64:
    return 0


@internal
@pure
def _read(state: Bytes[1024]) -> Board:
    assert len(state) == CELLS, "board"
    board: Board = empty(Board)
    counts: uint256[3] = [0, 0, 0]
    for column: uint256 in range(COLUMNS):
        is_open: bool = False
        for row: uint256 in range(HEIGHT):
            cell: uint256 = rules.number(state, column * HEIGHT + row, 1)
            assert cell <= 2 and (cell == 0 or not is_open), "board"
            counts[cell] += 1
            if cell == 0:
                is_open = True
            else:
                board.stones[cell - 1] |= 1 << (7 * column + row)
    assert counts[1] == counts[2] or counts[1] == counts[2] + 1, "board"
    board.taken = counts[1] + counts[2]
    return board


@internal
@pure
def _turn(board: Board) -> uint8:
    if board.taken == CELLS or self._has_four(board.stones[0]) or self._has_four(board.stones[1]):
        return rules.FINAL
    return convert(board.taken % 2, uint8)


@internal
@pure
def _has_four(stones: uint256) -> bool:
    for by: uint256 in [1, 6, 7, 8]:
        if stones & (stones >> by) & (stones >> (2 * by)) & (stones >> (3 * by)) != 0:
            return True
    return False


@internal
@pure
def _winner(board: Board) -> uint8:
    if self._has_four(board.stones[0]):
        return 0
    return 1 if self._has_four(board.stones[1]) else rules.FINAL
