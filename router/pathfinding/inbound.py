"""Fees for what comes *in* over a channel, as LND has them: of imported graphs, for our own network knows none.

A node asks its outbound fee for sending on, and adds what it asks for the channel by which the payment came, mostly a
discount. The inbound fee is counted on what is sent on together with the outbound fee, rounded towards zero, and both
together are never negative. The payee, who sends nothing on, asks neither; the payer's first channel counts as any.

    asked = max(0, outbound(amount) + inbound(amount + outbound(amount)))

Source: LND's `InboundFee.CalcFee` and its path finding; bLIP 18 (Joost Jager).
"""

from __future__ import annotations

import msgspec

from tallystick.router.objects import MILLION

RATE_MAX = 10 * MILLION
"""LND counts no larger rate, in either direction."""


class InboundFee(msgspec.Struct, frozen=True):
    """What the node at the end of a direction asks for what comes in over it; a negative one is a discount."""

    base: int
    ppm: int

    @property
    def rate(self) -> int:
        """Per million units, as far as it counts."""
        return max(-RATE_MAX, min(RATE_MAX, self.ppm))

    def fee(self, amount: int) -> int:
        """Return what is added for passing on `amount`, which has the outbound fee in it."""
        part = abs(self.rate) * amount // MILLION
        return self.base + (part if self.rate >= 0 else -part)


def fee_asked(outbound: int, inbound: InboundFee | None, amount: int) -> int:
    """Return what a node keeps for sending `amount` on at that outbound fee, if it came in at this inbound one."""
    return outbound if inbound is None else max(0, outbound + inbound.fee(amount + outbound))
