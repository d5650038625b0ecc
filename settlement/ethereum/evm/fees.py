"""What a transaction offers (EIP-1559): a cap on what a unit of gas costs in all, and in it a tip for the miner. Pure.

Two figures, never one: with the tip as high as the cap, geth's miners take the whole cap however low the base fee is.
The sender decides on the cap alone (`sending.pricing`), by budget and time; the tip follows from it here:

- At the market's cap it is the market's tip. Above, it grows with the cap: who is in a hurry outbids.
- A replacement raises cap and tip, each by a tenth at least (nodes ask for 10 %), and the tip never exceeds the cap.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.ethereum.rpc_shapes import read_quantity

HISTORY = 10
"""Blocks of which the tips are looked at."""

PERCENTILE = 50
"""Of the tips paid in a block, by gas."""

BUSY = 0.02
"""A block less full than this share says nothing of tips: there was room for everybody."""

HEADROOM = (3, 2)
"""The market's cap is so many base fees: that is three blocks of the steepest rise there can be (an eighth each)."""

REPLACE = 8
"""A replacement's tip is an eighth higher at least: nodes ask for a tenth."""


class FeeMarket(msgspec.Struct, frozen=True):
    """What a unit of gas costs in the next block, and what is paid on top of it. Native coin, smallest unit."""

    base: int
    tip: int

    @property
    def cap(self) -> int:
        """What to offer in all, to be mined within a few blocks."""
        return self.base * HEADROOM[0] // HEADROOM[1] + self.tip


class FeeOffer(msgspec.Struct, frozen=True):
    """What a transaction offers per unit of gas."""

    cap: int
    """At most in all (`maxFeePerGas`)."""
    tip: int
    """At most above the base fee (`maxPriorityFeePerGas`)."""


def market_of(bases: Sequence[int], fullness: Sequence[float], tips: Sequence[int], tip_min: int) -> FeeMarket:
    """Return the market by a fee history.

    It says the base fees of some blocks, the last one the next block's, and of each block how full it was, and the tip
    at the percentile. Raise InvalidInput if there is no base fee.
    """
    if not bases:
        raise InvalidInput("a fee history names one base fee at least")
    paid = [tip for tip, full in zip(tips, fullness, strict=False) if full >= BUSY]
    return FeeMarket(bases[-1], max(tip_min, statistics.median_low(paid) if paid else 0))


def offer_of(cap: int, market: FeeMarket, before: FeeOffer | None = None) -> FeeOffer:
    """Return the offer that goes with a cap; `before` is the last one under the same nonce, None for the first."""
    tip = market.tip if cap <= market.cap else market.tip * cap // max(1, market.cap)
    if before is not None:
        tip = max(tip, before.tip + before.tip // REPLACE + 1)
    return FeeOffer(cap, min(tip, cap))


def read_history(value: dict[str, Any], tip_min: int) -> FeeMarket:
    """Return the market by an answer to `eth_feeHistory` with one percentile; raise InvalidInput."""
    bases = [read_quantity(base, "a base fee") for base in value.get("baseFeePerGas") or ()]
    tips = [read_quantity(tips[0], "a tip") for tips in value.get("reward") or () if tips]
    return market_of(bases, [float(full) for full in value.get("gasUsedRatio") or ()], tips, tip_min)
