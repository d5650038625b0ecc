"""Every error that this package raises, below `TallystickError`.

TallystickError
├── InvalidInput
│   └── InvalidInvoice      a text that is no invoice for us, or not one at all; says which part is wrong
├── PeerError
│   ├── InvalidOnion        a packet that was not made for this node, was tampered with, or came before
│   └── GossipRefused       an announcement that is malformed, unsigned or contradicts the chain
└── PaymentFailed           a payment that ended unpaid (see `reason`); nothing is in flight any more
    └── NoRoute             no path within the limits exists in what is known of the network
"""

from __future__ import annotations

import enum

from tallystick.channels.errors import Fault, InvalidInput, PeerError, TallystickError
from tallystick.router.codes import Code


class InvalidInvoice(InvalidInput):
    """The text is not an invoice that can be paid. Nothing was done."""


class InvalidOnion(PeerError):
    """An onion packet that this node cannot open or understand, or has opened before. Nobody's connection ends for it:
    the lock that it came with is rejected (`failures.refusal`)."""

    code = Fault.REFUSED

    def __init__(self, text: str, failure: Code, secret: bytes = b"") -> None:
        super().__init__(text)
        self.failure = failure
        """What the payer is told."""
        self.secret = secret
        """Shared with the payer, as far as it is known: then only the payer can read what it is told."""


class GossipRefused(PeerError):
    """An announcement that is not believed."""

    code = Fault.REFUSED


class Unpaid(enum.StrEnum):
    """Why a payment ended unpaid. The values stand in stores and in the control API, and never change."""

    NO_ROUTE = "no-route"
    NO_LIQUIDITY = "not-enough-liquidity"
    FEE_LIMIT = "over-the-fee-limit"
    PAYEE_REFUSES = "payee-refuses"
    EXPIRED = "invoice-expired"
    TIMEOUT = "timed-out"
    CANCELLED = "cancelled"
    FAULT = "program-fault"
    """This program could not plan it; there is an alarm."""


class PaymentFailed(TallystickError):
    """A payment ended unpaid; no part of it is in flight. `reason` says why, the text says it to a person."""

    def __init__(self, text: str, reason: Unpaid) -> None:
        super().__init__(text)
        self.reason = reason


class NoRoute(PaymentFailed):
    """Nothing that is known of the network leads there within the limits."""

    def __init__(self, text: str, reason: Unpaid = Unpaid.NO_ROUTE) -> None:
        super().__init__(text, reason)
