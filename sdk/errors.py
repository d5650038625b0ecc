"""Errors of the SDK, below `TallystickError`.

TallystickError
├── OpeningFailed       the channel was not opened; nothing is locked
├── ConfigurationError  the data directory, its configuration or its keystore cannot be used
└── ControlError        the node's control API refused, or no node is running
"""

from __future__ import annotations

from tallystick.channels.errors import TallystickError


class OpeningFailed(TallystickError):
    """The peer refused, did not answer, or the chain refused the opening. Nothing is locked."""


class ConfigurationError(TallystickError):
    """The data directory or what is in it cannot be used; the text says what to do."""


class ControlError(TallystickError):
    """The node's control API could not be reached or refused a request."""
