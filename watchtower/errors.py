"""The errors of this package, below `TallystickError`.

TallystickError
└── PeerError
    ├── BadReceipt          the tower's receipt does not prove what it should; do not rely on this tower
    └── CoverRefused        the tower offers no such cover, or promises nothing under it
"""

from __future__ import annotations

import enum

from tallystick.channels.errors import Fault, PeerError


class TowerRefusal(enum.IntEnum):
    """Why a tower refuses. The numbers are part of the wire format."""

    STALE = 1
    """It holds a newer revision, or another blob under this one."""
    QUOTA = 2
    """The client has as many appointments as it may."""
    TROUBLE = 3
    """The tower lags, its disk is full or its fee account is empty."""
    UNKNOWN = 4
    """It holds nothing under that locator."""
    NO_COVER = 5
    """It offers no such cover, or promises nothing under it."""


class BadReceipt(PeerError):
    """The tower's receipt is not signed by it, or is for something else than what was sent."""

    code = Fault.BAD_SIGNATURE


class CoverRefused(PeerError):
    """The tower offers no such cover, asks more for it, or promises nothing under it."""
