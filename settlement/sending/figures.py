"""How the sending goes, and what it has cost so far. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from tallystick.settlement.chain import TransactionReceipt


class SenderStatistics(msgspec.Struct, frozen=True):
    """How the sending goes."""

    waiting: int
    """Obligations without a nonce yet."""
    sent: int
    """Obligations with a nonce that are not done."""
    troubled: tuple[str, ...]
    """What holds up obligations, one sentence each."""
    done: int
    """Obligations done since the start, and likewise the next two."""
    superseded: int
    quarantined: int
    submitted: int
    """Transactions handed to the chain node since the start, repetitions included."""
    faults: int
    """Times that the chain node did not answer."""
    fees: int = 0
    """Fees of the transactions that were seen to be confirmed since the start, in the native coin."""


class FeesPaid(msgspec.Struct, frozen=True):
    """The fees of all transactions that were seen to be confirmed, each counted once."""

    total: int = 0
    counted: frozenset[bytes] = frozenset()
    """Hashes of those that are still looked for."""

    def with_receipts(
        self, receipts: Mapping[bytes, TransactionReceipt], looked_for: Collection[bytes], deepest: int
    ) -> FeesPaid:
        """Return the same with these receipts, by hash: those in blocks up to number `deepest` count.

        `looked_for`: hashes of which a later look may bring a receipt again.
        """
        fresh = {
            name: found.fee
            for name, found in receipts.items()
            if found.block.number <= deepest and name not in self.counted
        }
        if not fresh and self.counted <= set(looked_for):
            return self
        return FeesPaid(self.total + sum(fresh.values()), self.counted.intersection(looked_for) | fresh.keys())
