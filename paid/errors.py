"""Every error that this package raises, below `TallystickError`.

TallystickError
└── PeerError
    └── MalformedPayment    a header or document of the scheme that cannot be read; says which part is wrong
"""

from __future__ import annotations

from tallystick.channels.errors import PeerError


class MalformedPayment(PeerError):
    """A credential, receipt or other text of the scheme that is not one. Nothing was done."""
