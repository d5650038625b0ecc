"""What a maker asks for: so much of one asset for so much of another, as an exact fraction, rounded its way. Pure.

For an `amount` on the target the maker spends at most `amount + route_fee(amount)` there. Its price on the source is
that at the fraction `take / give`, rounded up, and `base` on top: so `price × give ≥ spent × take`, always.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import Amount, Total
from tallystick.channels.values.arguments import Options
from tallystick.sdk.chains.assets import ChainAsset

MILLION = 1_000_000


class Rate(Options, frozen=True, kw_only=True):
    """For `give` units on the target, a maker takes `take` units on the source. Amounts in smallest units."""

    source: ChainAsset
    """What the maker is paid in."""
    target: ChainAsset
    """What it pays in."""
    take: Amount
    give: Amount
    base: Total = 0
    """On top of each price, in the source's units."""
    least: Amount = 1
    """The smallest amount. Worth more than what registering a secret on the source costs, or it is not claimed."""
    most: Amount = AMOUNT_MAX
    """The largest, if there is as much."""
    route_base: Total = 0
    """What a payment on the target may cost at most, beside … (in the target's units; the payer pays for it)"""
    route_ppm: Total = 0
    """… so many millionths of the amount."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == self.target:
            raise InvalidInput("a rate is between two assets, or one asset on two chains")
        if self.least > self.most:
            raise InvalidInput(f"the smallest amount ({self.least}) is above the largest ({self.most})")

    def route_fee(self, amount: int) -> int:
        """Return the most that paying `amount` on the target may cost there."""
        return self.route_base + -(-amount * self.route_ppm // MILLION)

    def price(self, amount: int) -> int:
        """Return what the maker asks for on the source; raise InvalidInput if it does not trade that amount."""
        if not self.least <= amount <= self.most:
            raise InvalidInput(f"{self.source} for {self.target}: from {self.least} to {self.most} of it, not {amount}")
        price = -(-(amount + self.route_fee(amount)) * self.take // self.give) + self.base
        if price > AMOUNT_MAX:
            raise InvalidInput(f"{amount} of {self.target} would cost more than can be paid in one payment")
        return price
