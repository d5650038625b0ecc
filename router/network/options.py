"""How a node pays and is paid over several hops: what its owner may choose, in general and asset by asset."""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.values.arguments import Options
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.sending.payer import Limits

FEE_UNITS = 5
"""What a payment in the coin may cost beside `fee_percent`."""


class AssetOptions(Options, frozen=True, kw_only=True):
    """How a node pays in one asset that is not the chain's coin. Amounts in its smallest unit."""

    part_min: int = 1_000
    """No part is made smaller than this by splitting: for the coin, `Limits.part_min`."""
    fee_units: int = 0
    """What a payment may cost beside `fee_percent`, where its payer says nothing else: for small ones, if forwarders
    ask for base fees in this asset."""


class PaymentOptions(Options, frozen=True, kw_only=True):
    """How a node pays and is paid. Times in seconds."""

    keysend: bool = True
    """Whether to take payments that have no invoice: in the coin, and in the `assets`."""
    announce: bool = True
    """Whether to tell the network of our channels, so that it can pay through us and to us."""
    hints: bool = True
    """Whether invoices name channels that gossip does not know (and thus our peers there): without, only who knows of
    them otherwise can pay."""
    alias: str = ""
    patience: PayeeOptions = PayeeOptions()
    limits: Limits = Limits()
    lock_seconds: int = 3_600
    """How long the locks of a payment live."""
    fee_percent: int = 5
    """The most that a payment may cost, where its payer says nothing else (in the coin, and 5 units for small ones)."""
    timeout: float = 60.0
    """How long a payment is tried, where its payer says nothing else."""
    compiled: bool = False
    """Whether to search paths with numba (`tallystick[fast]`)."""
    assets: dict[Address, AssetOptions] = msgspec.field(default_factory=dict)
    """Assets that the owner knows, besides the coin. In any other one, a payment that nobody asked for may be
    worthless, and is not taken; invoices and payments are possible wherever there is an open channel."""
    assets_max: int = 8
    """For how many assets besides the coin to have a map of the network."""

    def limits_in(self, asset: Address) -> Limits:
        """Return how hard payments in an asset are tried."""
        if asset == NATIVE:
            return self.limits
        return msgspec.structs.replace(self.limits, part_min=self._in(asset).part_min)

    def max_fee(self, amount: int, asset: Address) -> int:
        """Return what a payment may cost where its payer says nothing else."""
        return amount * self.fee_percent // 100 + (FEE_UNITS if asset == NATIVE else self._in(asset).fee_units)

    def _in(self, asset: Address) -> AssetOptions:
        return self.assets.get(asset, AssetOptions())
