"""Decoding and recovering many transactions in one call, as machine code that runs without the interpreter's lock.

Made by numba, where it is installed (`pip install tallystick[fast]`); import this module only then. libsecp256k1 is
called by the addresses of its functions, which `native` passes in. What is not as most transactions are, or does not
hold, is marked and nothing else: `native` gives it to `decode_transaction`, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tallystick.channels.protocol.keys import HALF_ORDER

F = TypeVar("F", bound=Callable[..., Any])


def _fast(function: F) -> F:
    compiled: Any = njit(cache=True, nogil=True)(function)
    return cast(F, compiled)


def _foreign(count: int) -> Any:
    """Return what calls the C function at an address, with so many arguments of a word each; it returns an int."""

    @intrinsic
    def call(typing: Any, address: Any, arguments: Any) -> Any:
        tuples: Any = types.UniTuple
        signature = types.int32(types.uint64, tuples(types.uint64, count))

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(ir.IntType(32), [word] * count)
            function = builder.inttoptr(values[0], kind.as_pointer())
            return builder.call(function, [builder.extract_value(values[1], at) for at in range(count)])

        return signature, generate

    return call


_call4 = _foreign(4)
_call5 = _foreign(5)

_ROUNDS = np.array(
    [
        *(0x1, 0x8082, 0x800000000000808A, 0x8000000080008000, 0x808B, 0x80000001, 0x8000000080008081),
        *(0x8000000000008009, 0x8A, 0x88, 0x80008009, 0x8000000A, 0x8000808B, 0x800000000000008B),
        *(0x8000000000008089, 0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x800A),
        *(0x800000008000000A, 0x8000000080008081, 0x8000000000008080, 0x80000001, 0x8000000080008008),
    ],
    dtype=np.uint64,
)
_TURNS = (1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44)
_LANES = (10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1)
_RATE = 136
_HALF_ORDER = np.frombuffer(HALF_ORDER.to_bytes(32, "big"), np.uint8)
_SIZES = (8, 8, 16, 16, 8, 20, 16, 131_072, 0, 1, 32, 32)
"""The most bytes of each field."""
_TO, _DATA, _ACCESS, _PARITY = 5, 7, 8, 9
"""Fields that are no numbers, or are followed by what is not signed."""
_NONE = (-1, -1)
UNCOMPRESSED = 2
"""libsecp256k1's flag of a point in 65 bytes."""


@_fast
def _permute(state: Any) -> None:
    """Keccak-f[1600]."""
    columns = np.empty(5, np.uint64)
    for turn in range(24):
        for x in range(5):
            columns[x] = state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20]
        for x in range(5):
            after = columns[(x + 1) % 5]
            mixed = columns[(x + 4) % 5] ^ (after << np.uint64(1)) ^ (after >> np.uint64(63))
            for y in range(0, 25, 5):
                state[y + x] ^= mixed
        moved = state[1]
        for lane in range(24):
            kept = state[_LANES[lane]]
            left = np.uint64(_TURNS[lane])
            state[_LANES[lane]] = (moved << left) | (moved >> (np.uint64(64) - left))
            moved = kept
        for y in range(0, 25, 5):
            for x in range(5):
                columns[x] = state[y + x]
            for x in range(5):
                state[y + x] = columns[x] ^ (~columns[(x + 1) % 5] & columns[(x + 2) % 5])
        state[0] ^= _ROUNDS[turn]


@_fast
def keccak_into(data: Any, begin: int, end: int, result: Any) -> None:
    """Write keccak-256 of a part of `data` into `result`."""
    state = np.zeros(25, np.uint64)
    sponge = state.view(np.uint8)
    at = 0
    for index in range(begin, end):
        sponge[at] ^= data[index]
        at += 1
        if at == _RATE:
            _permute(state)
            at = 0
    sponge[at] ^= 1
    sponge[_RATE - 1] ^= 0x80
    _permute(state)
    for index in range(32):
        result[index] = sponge[index]


@_fast
def _copy(source: Any, begin: int, stop: int, target: Any, at: int) -> None:
    for index in range(begin, stop):
        target[at + index - begin] = source[index]


@_fast
def _string(raw: Any, at: int, end: int) -> Any:
    """Return where the payload of the RLP string at `at` begins and ends; _NONE if it is none, or not canonical."""
    if at >= end:
        return _NONE
    first = int(raw[at])
    if first < 0x80:
        return at, at + 1
    if first <= 0xB7:
        begin, size = at + 1, first - 0x80
        if size == 1 and (begin >= end or raw[begin] < 0x80):
            return _NONE
    else:
        begin, size = _long(raw, at, first - 0xB7, end)
    return (begin, begin + size) if 0 <= begin <= end - size else _NONE


@_fast
def _long(raw: Any, at: int, count: int, end: int) -> Any:
    """Return where a long payload begins, and its size, which stands in `count` bytes."""
    begin = at + 1 + count
    if count > 3 or begin > end or raw[at + 1] == 0:
        return _NONE
    size = 0
    for index in range(at + 1, begin):
        size = size * 256 + int(raw[index])
    return (begin, size) if size >= 56 else _NONE


@_fast
def _whole(raw: Any, begin: int, stop: int) -> Any:
    """Return the lowest 64 bits of a number."""
    value = np.uint64(0)
    for index in range(begin, stop):
        value = (value << np.uint64(8)) | np.uint64(raw[index])
    return value


@_fast
def _compare(raw: Any, begin: int, stop: int, other: int, other_stop: int) -> int:
    """Return whether a number is above (1), equal to (0) or below (-1) another one, both without leading zeros."""
    if stop - begin != other_stop - other:
        return 1 if stop - begin > other_stop - other else -1
    for index in range(stop - begin):
        if raw[begin + index] != raw[other + index]:
            return 1 if raw[begin + index] > raw[other + index] else -1
    return 0


@_fast
def _halves(raw: Any, begin: int, stop: int) -> Any:
    """Return a number of up to 128 bits as two of 64, the upper one first."""
    middle = max(begin, stop - 8)
    return _whole(raw, begin, middle), _whole(raw, middle, stop)


@_fast
def _is_low(signature: Any) -> bool:
    """Return whether s, the second half of a signature, is in the lower half of its range."""
    for index in range(32):
        if signature[32 + index] != _HALF_ORDER[index]:
            return bool(signature[32 + index] < _HALF_ORDER[index])
    return True


@_fast
def _recover(library: Any, digest: Any, signature: Any, parity: int, work: Any, address: Any) -> bool:
    """Write the address that made `signature` (64 bytes) over `digest` into the last 20 bytes of `address`."""
    context, parse, recover, serialize = library[0], library[1], library[2], library[3]
    parsed = np.uint64(work.ctypes.data)
    key, point, size = parsed + np.uint64(128), parsed + np.uint64(256), parsed + np.uint64(384)
    if not _call4(parse, (context, parsed, np.uint64(signature.ctypes.data), np.uint64(parity))):
        return False
    if not _call4(recover, (context, key, parsed, np.uint64(digest.ctypes.data))):
        return False
    for index in range(8):
        work[384 + index] = 0
    work[384] = 65
    _call5(serialize, (context, point, size, key, np.uint64(UNCOMPRESSED)))
    keccak_into(work, 257, 321, address)
    return True


@_fast
def _split(raw: Any, start: int, end: int, begins: Any, stops: Any) -> int:
    """Find where each field begins and stops; return where the list's payload begins, -1 if it is an unusual one."""
    if end - start < 2 or raw[start] != 2 or raw[start + 1] < 0xF8:
        return -1
    payload, size = _long(raw, start + 1, int(raw[start + 1]) - 0xF7, end)
    if payload < 0 or payload + size != end:
        return -1
    at = payload
    for field in range(12):
        if field == _ACCESS:
            if at >= end or raw[at] != 0xC0:
                return -1
            begin, stop = at + 1, at + 1
        else:
            begin, stop = _string(raw, at, end)
        size = stop - begin
        if begin < 0 or size > _SIZES[field]:
            return -1
        if field not in (_TO, _DATA) and size and raw[begin] == 0:
            return -1
        begins[field], stops[field] = begin, stop
        at = stop
    return int(payload) if at == end else -1


@_fast
def _signed_digest(raw: Any, begin: int, end: int, digest: Any) -> None:
    """Write the hash of what a sender signed: the type, and a list whose payload is a part of `raw`."""
    payload = end - begin
    count = 0 if payload < 56 else 1 if payload < 256 else 2 if payload < 65_536 else 3
    signed = np.empty(payload + 2 + count, np.uint8)
    signed[0], signed[1] = 2, 0xF7 + count if count else 0xC0 + payload
    for index in range(count):
        signed[2 + index] = (payload >> (8 * (count - 1 - index))) & 0xFF
    _copy(raw, begin, end, signed, 2 + count)
    keccak_into(signed, 0, len(signed), digest)


@_fast
def _decode(raw: Any, start: int, end: int, chain: int, library: Any, work: Any, numbers: Any, names: Any) -> bool:
    """Decode the transaction in a part of `raw`; return whether it is as most are, and valid."""
    begins, stops = np.empty(12, np.int64), np.empty(12, np.int64)
    payload = _split(raw, start, end, begins, stops)
    if payload < 0:
        return False
    if _whole(raw, begins[0], stops[0]) != np.uint64(chain) or stops[_TO] - begins[_TO] != 20:
        return False
    price, price_low = _halves(raw, begins[2], stops[2])
    most, most_low = _halves(raw, begins[3], stops[3])
    if price > most or (price == most and price_low > most_low):
        return False
    parity = stops[_PARITY] - begins[_PARITY]
    if parity and raw[begins[_PARITY]] != 1:
        return False
    signature, digest, address = np.zeros(64, np.uint8), np.empty(32, np.uint8), np.empty(32, np.uint8)
    for half in range(2):
        begin, stop = begins[_PARITY + 1 + half], stops[_PARITY + 1 + half]
        _copy(raw, begin, stop, signature, 32 + 32 * half - (stop - begin))
    _signed_digest(raw, payload, stops[_ACCESS], digest)
    if not (_is_low(signature) and _recover(library, digest, signature, parity, work, address)):
        return False
    keccak_into(raw, start, end, names)
    _copy(address, 12, 32, names, 32)
    numbers[0], numbers[1] = _whole(raw, begins[1], stops[1]), _whole(raw, begins[4], stops[4])
    numbers[2], numbers[3] = price, price_low
    numbers[4], numbers[5] = _halves(raw, begins[6], stops[6])
    numbers[6], numbers[7], numbers[8] = begins[_TO], begins[_DATA], stops[_DATA]
    return True


@_fast
def decode_all(raw: Any, ends: Any, chain: int, library: Any, numbers: Any, names: Any, valid: Any) -> None:
    """Decode the transactions that stand in `raw` one after the other, up to each of `ends`.

    Of each that is `valid` then, `numbers` has: nonce, gas, both halves of price and value, where the recipient begins,
    where the data begins and ends; `names` has its hash and its sender.
    """
    work = np.empty(512, np.uint8)
    start = 0
    for index in range(len(ends)):
        end = int(ends[index])
        valid[index] = _decode(raw, start, end, chain, library, work, numbers[index], names[index])
        start = end


@_fast
def verify_all(statements: Any, library: Any, valid: Any) -> None:
    """Look at rows of digest, signature and signer (32, 64 and 20 bytes): is the signature low, and the signer's?"""
    work, address = np.empty(512, np.uint8), np.empty(32, np.uint8)
    for index in range(len(statements)):
        row = statements[index]
        valid[index] = 0
        if not _is_low(row[32:96]):
            continue
        for parity in range(2):
            if _recover(library, row[:32], row[32:96], parity, work, address):
                same = True
                for at in range(20):
                    same = same and address[12 + at] == row[96 + at]
                if same:
                    valid[index] = 1
                    break
