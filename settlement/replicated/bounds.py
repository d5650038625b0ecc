"""How much a proposal may hold, told before anything in it is recovered or executed: count, bytes, mints, and gas.

Whoever proposes chooses what the others spend on looking at it. A block has room for 36,000 transfers and gas for a few
of them: recovering all signatures first would take seconds, and no fee is paid for what is refused. So what cannot be
in an honest proposal is told by what it says of itself: its size, and the gas of the calls, which no signature changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum.transactions import read_unsigned
from tallystick.settlement.execution.prepared import Prepared
from tallystick.settlement.replicated.decision import MINT_BYTES, MINT_MARK, Rules, Work

BLOCK_BYTES = 4_194_304
"""Bytes of a block at most."""

FRAMING = 8
"""Bytes that a transaction takes in a block besides its own, at most."""

GAS_LEAST = 20_000
"""Gas that each transaction takes, at least."""

MINTS_MAX = 1_000
"""Mints of one block of a development chain, at most: they pay nothing, and take no gas."""


def fitting(transactions: Sequence[bytes], bytes_max: int) -> tuple[bytes, ...]:
    """Return the first of them, as many as fit into so many bytes."""
    taken = 0
    for index, raw in enumerate(transactions):
        taken += len(raw) + FRAMING
        if taken > min(bytes_max, BLOCK_BYTES):
            return tuple(transactions[:index])
    return tuple(transactions)


def is_within(transactions: Sequence[bytes], rules: Rules, known: Callable[[bytes], Work | None]) -> bool:
    """Whether a proposal holds no more than there is room and gas for. `known` gives what was read of one before."""
    mints = sum(raw[:1] == MINT_MARK for raw in transactions)
    if mints > (MINTS_MAX if rules.dev else 0):
        return False
    if (len(transactions) - mints) * GAS_LEAST > rules.gas_limit:
        return False
    if sum(map(len, transactions)) + FRAMING * len(transactions) > BLOCK_BYTES:
        return False
    left = rules.gas_limit
    for raw in transactions:
        if raw[:1] == MINT_MARK:
            if len(raw) > MINT_BYTES:
                return False
            continue
        work = known(raw)
        try:
            reading = work.reading if isinstance(work, Prepared) else read_unsigned(raw, rules.at)
        except TransactionRefused:
            return False
        left -= reading.gas
        if left < 0:
            return False
    return True
