"""What of preparing transactions machine code does (`machine`), if numba is installed; else it is done one by one."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from tallystick.channels.protocol.keys import foreign_functions
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.contract.signed import Statement
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.transactions import TRANSACTION_MAX, Transaction

_CHAIN_MAX = 2**63 - 1
"""Chain ids that machine code knows, at most."""


class Native(Protocol):
    """Does much of the work on many transactions at once. What it says nothing of, is done in the plain way."""

    def decode(self, raws: Sequence[bytes], chain_id: int) -> list[Transaction | None]:
        """Return the transactions that are as most are, and valid; None for others."""

    def valid(self, statements: Sequence[Statement]) -> list[bool]:
        """Return which signatures hold; of others, `verify_signer` says why not."""


class Plain:
    """Does nothing."""

    def decode(self, raws: Sequence[bytes], chain_id: int) -> list[Transaction | None]:
        """Say nothing of any."""
        return [None] * len(raws)

    def valid(self, statements: Sequence[Statement]) -> list[bool]:
        """Say nothing of any."""
        return [False] * len(statements)


class MachineCode:
    """Machine code; made, or read from a cache, with the first call."""

    def __init__(self) -> None:
        import numpy as np

        from tallystick.settlement.execution import machine

        self._numpy: Any = np
        self._machine: Any = machine
        self._library = np.array(foreign_functions(), np.uint64)

    def decode(self, raws: Sequence[bytes], chain_id: int) -> list[Transaction | None]:
        """Return the transactions that are as most are, and valid; None for others."""
        if chain_id > _CHAIN_MAX or any(len(raw) > TRANSACTION_MAX for raw in raws):
            return [None] * len(raws)
        np, count = self._numpy, len(raws)
        joined = b"".join(raws)
        ends = np.cumsum(np.fromiter(map(len, raws), np.int64, count))
        numbers = np.empty((count, 9), np.uint64)
        names = np.empty((count, 52), np.uint8)
        valid = np.zeros(count, np.uint8)
        self._machine.decode_all(np.frombuffer(joined, np.uint8), ends, chain_id, self._library, numbers, names, valid)
        found: list[Transaction | None] = []
        named = names.tobytes()
        at = 0
        for raw, row, good in zip(raws, numbers.tolist(), valid.tolist(), strict=True):
            if good:
                nonce, gas, price, price_low, value, value_low, to, data, data_end = row
                envelope = Envelope(Address(joined[to : to + 20]), value << 64 | value_low, joined[data:data_end])
                sender = Address(named[at + 32 : at + 52])
                hash = named[at : at + 32]
                found.append(Transaction(raw, hash, sender, nonce, price << 64 | price_low, gas, envelope))
            else:
                found.append(None)
            at += 52
        return found

    def valid(self, statements: Sequence[Statement]) -> list[bool]:
        """Return which signatures hold; of others, `verify_signer` says why not."""
        np = self._numpy
        rows = [b"".join(each) for each in statements]
        if any(len(row) != 116 or len(each[1]) != 64 for row, each in zip(rows, statements, strict=True)):
            return [False] * len(rows)
        valid = np.zeros(len(rows), np.uint8)
        joined = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), 116)
        self._machine.verify_all(joined, self._library, valid)
        return [bool(each) for each in valid.tolist()]


@cache
def best_native() -> Native:
    """Return the fastest that can be had here."""
    if all(importlib.util.find_spec(name) is not None for name in ("numba", "numpy")):
        try:
            return MachineCode()
        except RuntimeError:  # nowhere to write a cache to
            return Plain()
    return Plain()
