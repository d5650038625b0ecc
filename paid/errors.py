"""Every error that this package raises, below `TallystickError`.

TallystickError
├── InvalidInput
│   └── NotPaid             a call costs more than may be spent, or is offered in no way that is allowed
├── NotDelivered            a payment was begun, and no answer came for it yet
└── PeerError
    └── MalformedPayment    a header or document of the scheme that cannot be read; says which part is wrong
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput, PeerError, TallystickError


class MalformedPayment(PeerError):
    """A credential, receipt or other text of the scheme that is not one. Nothing was done."""


class NotPaid(InvalidInput):
    """A call costs more than may be spent, or is offered in no way that is allowed. Nothing was paid."""


class NotDelivered(TallystickError):
    """A payment was begun, and no answer came for it yet. The same call goes on with it, and pays nothing more."""
